//! `MODE --name value …`: each name is asked for by the mode that knows it, and what nobody has asked for is an error.

use crate::failure::Failure;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

pub struct Args {
    pub mode: String,
    pub json: bool,
    values: BTreeMap<String, String>,
}

impl Args {
    /// Takes the arguments apart.
    pub fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mode = words.next().ok_or("which mode?")?;
        let mut args = Args { mode, json: false, values: BTreeMap::new() };
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or(format!("'{word}' is no --name"))?;
            if name == "json" {
                args.json = true;
                continue;
            }
            let value = words.next().ok_or(format!("--{name} needs a value"))?;
            if args.values.insert(name.to_owned(), value).is_some() {
                return Err(format!("--{name} is given twice"));
            }
        }
        Ok(args)
    }

    /// The text of `--name`, if it was given.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// The number of `--name`, if it was given.
    pub fn number<N>(&mut self, name: &str, range: RangeInclusive<N>) -> Result<Option<N>, Failure>
    where
        N: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.values.remove(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                Err(Failure::Usage(format!("--{name} is {} to {}, not '{text}'", range.start(), range.end())))
            }
        }
    }

    /// To be called when all names are asked for.
    pub fn all_known(&self) -> Result<(), Failure> {
        match self.values.keys().next() {
            Some(name) => Err(Failure::Usage(format!("{} has no --{name}", self.mode))),
            None => Ok(()),
        }
    }
}
