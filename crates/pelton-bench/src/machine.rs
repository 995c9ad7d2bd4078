//! The machine on which something was measured, and the CPUs that are used for it.

use pelton::host::{available, nameable, siblings};
use pelton::shard::can_pin;
pub use pelton_cli::doctor::model;
use serde::Serialize;

/// Where figures come from: nobody can compare them without knowing it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The CPU's model, as the system names it; empty where it does not.
    pub model: String,
    /// CPUs that the machine has.
    pub cpus_online: usize,
    /// The CPUs used: the producer's, the consumer's, those of further producers.
    pub cpus: Vec<usize>,
    /// Whether threads can be pinned to them.
    pub pinned: bool,
    /// Whether the first two are one core, shared by two hardware threads.
    pub siblings: bool,
    /// Operating system and architecture: `linux x86_64`.
    pub system: String,
    /// The version of Pelton.
    pub version: &'static str,
    /// The compile-time features that were on, among those which change what is measured.
    pub features: Vec<&'static str>,
    /// Whether this is a build without optimisations, whose figures say nothing.
    pub debug: bool,
}

impl Machine {
    /// What there is to see of it.
    pub fn look(cpus: &[usize]) -> Self {
        Machine {
            model: model().unwrap_or_default(),
            cpus_online: nameable().len(),
            cpus: cpus.to_vec(),
            pinned: cpus.iter().all(|cpu| can_pin(*cpu)),
            siblings: cpus.len() > 1 && siblings(cpus[0]).contains(&cpus[1]),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            version: env!("CARGO_PKG_VERSION"),
            features: pelton::FEATURES
                .iter()
                .copied()
                .filter(|name| !["async", "config"].contains(name))
                .collect(),
            debug: cfg!(debug_assertions),
        }
    }
}

/// The CPUs that a measurement uses unless they are named: the first of this process's mask, then those that share no
/// core with it, then the others. Two hardware threads of one core would share what they are measured with.
pub fn choose() -> Vec<usize> {
    order(available(), &siblings(available()[0]))
}

fn order(there: &[usize], siblings: &[usize]) -> Vec<usize> {
    let first = there[0];
    let (near, far): (Vec<usize>, Vec<usize>) = there[1..].iter().partition(|cpu| siblings.contains(cpu));
    [first].into_iter().chain(far).chain(near).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_cpu_shares_no_core_with_the_first_where_there_is_another() {
        assert_eq!(order(&[0, 1, 2, 3], &[0, 1]), [0, 2, 3, 1]);
        assert_eq!(order(&[0, 1, 2, 3], &[0, 2]), [0, 1, 3, 2]);
        assert_eq!(order(&[0, 1], &[0, 1]), [0, 1]);
        assert_eq!(order(&[3], &[]), [3]);
    }
}
