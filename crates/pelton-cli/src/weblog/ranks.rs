//! Ranks drawn by Zipf's law, in the same time for any skew and the same way on every machine.
//!
//! # Mechanism
//! The alias method (A. J. Walker 1977; the table is built after M. D. Vose 1991): each rank has a cell, all
//! cells are drawn alike, and a cell holds at most two ranks: its own, and one that has more than a cell's
//! worth. So a draw is one multiplication and one look-up.
//!
//! # Invariants
//! - The probabilities are right to within 2^-32 of a cell.
//! - The table depends on nothing but count and skew: the powers come from a software library, and all other
//!   arithmetic is IEEE operations with one exact result, in a fixed order.
//!
//! # Limits
//! 8 bytes for each rank, 2^32 - 1 ranks; the callers' limits are lower.

/// The number of steps that a cell is divided into.
pub(crate) const TWO_TO_32: f64 = 4_294_967_296.0;

/// Ranks from 0, drawn with a probability that falls with a power of the rank.
#[derive(Debug)]
pub(crate) struct Ranks {
    cells: Vec<Cell>,
}

/// A cell is drawn with the same probability as any other; within it, its own rank is drawn `own` times of
/// 2^32, and `other` else.
#[derive(Clone, Copy, Debug)]
struct Cell {
    own: u32,
    other: u32,
}

impl Ranks {
    /// Ranks 0 to `count` - 1, with the exponent `skew`. Both are checked by the caller; `count` is not 0.
    pub(crate) fn new(count: u32, skew: f64) -> Self {
        // A software power, since the one of the system's library differs from machine to machine in the last
        // bit.
        let mut shares: Vec<f64> = (1..=count).map(|rank| libm::pow(f64::from(rank), -skew)).collect();
        let scale = f64::from(count) / shares.iter().sum::<f64>();
        shares.iter_mut().for_each(|share| *share *= scale);
        // Ranks with less than a cell's worth are filled up from those with more, each from one other.
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..count).partition(|&rank| shares[rank as usize] < 1.0);
        let mut cells: Vec<Cell> = (0..count).map(|rank| Cell { own: u32::MAX, other: rank }).collect();
        while let (Some(&lender), Some(&poor)) = (large.last(), small.last()) {
            small.pop();
            let share = shares[poor as usize];
            cells[poor as usize] = Cell { own: (share * TWO_TO_32) as u32, other: lender };
            let rest = &mut shares[lender as usize];
            *rest -= 1.0 - share;
            if *rest < 1.0 {
                large.pop();
                small.push(lender);
            }
        }
        // What is left over in either list is a whole cell, but for rounding.
        Self { cells }
    }

    /// A rank for 64 random bits.
    #[inline]
    pub(crate) fn draw(&self, bits: u64) -> u32 {
        // The whole part of the product chooses the cell, its fraction the place inside (D. Lemire 2019).
        let product = u128::from(bits) * self.cells.len() as u128;
        let rank = (product >> 64) as usize;
        let cell = self.cells[rank];
        if ((product >> 32) as u32) < cell.own { rank as u32 } else { cell.other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The probabilities that a table stands for, added up cell by cell.
    fn probabilities(ranks: &Ranks) -> Vec<f64> {
        let count = ranks.cells.len() as f64;
        let mut all = vec![0.0; ranks.cells.len()];
        for (rank, cell) in ranks.cells.iter().enumerate() {
            let own = f64::from(cell.own) / TWO_TO_32;
            all[rank] += own / count;
            all[cell.other as usize] += (1.0 - own) / count;
        }
        all
    }

    #[test]
    fn the_table_stands_for_zipf_s_law() {
        for count in [1, 2, 3, 10, 1_000, 65_537] {
            for skew in [0.0, 0.3, 1.0, 1.7, 4.0] {
                let sum: f64 = (1..=count).map(|rank| f64::from(rank).powf(-skew)).sum();
                for (at, found) in probabilities(&Ranks::new(count, skew)).into_iter().enumerate() {
                    let expected = (at as f64 + 1.0).powf(-skew) / sum;
                    assert!(
                        (found - expected).abs() < 1e-8,
                        "{at} of {count} at {skew}: {found}, {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_are_ranks() {
        for count in [1, 2, 3, 1_000] {
            let ranks = Ranks::new(count, 1.0);
            assert!(ranks.draw(0) < count && ranks.draw(u64::MAX) < count);
        }
    }
}
