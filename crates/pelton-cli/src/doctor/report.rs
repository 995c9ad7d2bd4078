//! The report: all findings with what was measured, and the script of what would mend them.

use super::finding::{AT_BOOT, Finding, OF_PROCESS, State};
use super::measured::Figures;
use pelton::host::list;
use serde::Serialize;
use std::fmt::Write;

/// All that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The CPUs that an engine uses.
    pub cpus: Vec<usize>,
    /// Whether this is a build without optimisations, whose figures say little.
    pub debug: bool,
    /// Every finding, by topic.
    pub findings: Vec<Finding>,
    /// What was measured; `None` where nothing was.
    pub measured: Option<Figures>,
}

impl Report {
    /// How many findings are in this state.
    pub fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.state == state).count()
    }

    /// The findings in this state.
    pub fn in_state(&self, state: State) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.state == state)
    }

    /// A script for `sh` with the commands of all findings, each below what it is for. Nothing runs it.
    pub fn fix_script(&self) -> String {
        let mut script = format!(
            "#!/bin/sh\n\
             # What an administrator may change on this machine for an engine on the CPUs {}.\n\
             # Nothing of it has been done. Read it, keep what you want, and run it as root.\n\
             # What is written below /sys and /proc holds until the machine starts again;\n\
             # arguments of the kernel take effect only then.\n",
            list(&self.cpus)
        );
        let mut commands = self.findings.iter().flat_map(|finding| &finding.fix);
        if commands.any(|command| command.starts_with(OF_PROCESS)) {
            script.push_str(
                "# What is done to a process is left out unless PID is its number: PID=1234 sh this-script.\n",
            );
        }
        let amiss = self.findings.iter().filter(|finding| !finding.fix.is_empty());
        for Finding { name, state, found, reason, cost, fix, .. } in amiss {
            // Writing to a string cannot fail.
            let _ = writeln!(script, "\n# {} ({state}): {}", one_line(name), one_line(found));
            for text in [reason, cost].into_iter().filter(|text| !text.is_empty()) {
                let _ = writeln!(script, "#   {}", one_line(text));
            }
            for command in fix.iter().map(|command| one_line(command)) {
                if let Some(argument) = command.strip_prefix(AT_BOOT) {
                    let _ = writeln!(
                        script,
                        "#   grubby is on Red Hat's systems alone. On others, add this to GRUB_CMDLINE_LINUX in\n\
                         #   /etc/default/grub and run update-grub: {argument}"
                    );
                }
                let _ = writeln!(script, "{command}");
            }
        }
        if self.findings.iter().all(|finding| finding.fix.is_empty()) {
            script.push_str("\n# There is nothing to change.\n");
        }
        script
    }
}

/// What came from a file of the system must not begin a line of its own: it would be a command.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Topic, at_boot, of_process};
    use super::*;

    fn report(findings: Vec<Finding>) -> Report {
        Report { cpus: vec![0, 1], debug: false, findings, measured: None }
    }

    #[test]
    fn the_script_has_every_command_below_its_reason_and_no_line_of_others() {
        let finding = |id| Finding::new(Topic::System, id, id);
        let report = report(vec![
            finding("good").ok("fine", "it is").fix("never"),
            finding("bad").bad("worse\nrm -rf /", "it\ris", "time").fix("echo max > /sys/x"),
            finding("dark").unknown("no"),
        ]);
        let script = report.fix_script();
        let commands: Vec<_> =
            script.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert_eq!(commands, ["echo max > /sys/x"]);
        assert!(script.contains("# bad (bad): worse rm -rf /\n#   it is\n#   time\n"), "{script}");
        assert_eq!(State::ALL.map(|state| report.count(state)), [1, 1, 0, 1]);
    }

    #[test]
    fn what_some_systems_lack_ends_no_script_and_is_told() {
        let finding = |id| Finding::new(Topic::Cpus, id, id);
        let report = report(vec![
            finding("mask").warn("1", "it is", "time").fix(of_process("exit 7 #")),
            finding("isolated").warn("none", "it is", "time").fix(at_boot("isolcpus=1")),
        ]);
        let script = report.fix_script();
        assert!(script.contains("PID=1234 sh") && script.contains("update-grub: isolcpus=1\n"), "{script}");
        assert!(script.contains("\ngrubby --update-kernel=ALL --args=isolcpus=1\n"), "{script}");
        let ended = |pid: &str| {
            let mut shell = std::process::Command::new("sh");
            let script = script.replace("grubby ", "exit 5 # ");
            shell.args(["-uc", &script]).env("PID", pid).status().unwrap().code()
        };
        assert_eq!([ended(""), ended("1")], [Some(5), Some(7)]);
    }

    #[test]
    fn a_good_machine_has_nothing_to_change() {
        assert!(report(vec![]).fix_script().ends_with("nothing to change.\n"));
    }
}
