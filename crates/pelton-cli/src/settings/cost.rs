//! What a setting costs: the bytes of the footprint that are there because it is not the least that it can be.
//!
//! # Mechanism
//! It is found by trying: the footprint as it is, less the footprint with this one setting at the least that it can be (its
//! range's least, `false`, or the word that stands for none, whichever takes less). So the shards' cost is that of all
//! beyond the first, and the costs of all settings are no parts of a sum: lanes are slots times producers times shards, and
//! each of the three is charged with the product.

use pelton::engine::{Kind, Setting, Value};

/// The cost of a setting. `find` finds what it is a setting of in the whole, `footprint` is that of the whole: `None` where
/// it cannot be.
pub fn cost_of<T, W: Clone>(
    row: &Setting<T>,
    whole: &W,
    find: impl Fn(&mut W) -> Option<&mut T>,
    footprint: impl Fn(&W) -> Option<u64>,
) -> Option<u64> {
    let least: Vec<Value> = match row.info.kind {
        Kind::Flag => vec![false.into()],
        Kind::Whole(range) => {
            let number = if range.zero { 0 } else { range.from };
            [Some(number.into()), range.word.map(Value::from)].into_iter().flatten().collect()
        }
        _ => return Some(0),
    };
    let now = row.get(find(&mut whole.clone())?);
    let with = |value| {
        let mut whole = whole.clone();
        row.set(find(&mut whole)?, value);
        footprint(&whole)
    };
    let least = least.into_iter().filter(|value| *value != now).filter_map(with).min();
    Some(least.zip(footprint(whole)).map_or(0, |(least, now)| now.saturating_sub(least)))
}
