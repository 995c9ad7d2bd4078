//! What a file says, sorted by the setting that it is for.

use super::collect::{Candidates, Collected, nearest};
use super::document::{Block, Document, Owned};
use super::problem::{Problem, Rule};
use super::table::owner_of;

impl Collected {
    pub fn take_document(&mut self, document: Document) {
        self.problems.extend(document.problems);
        for entry in document.entries {
            if self.parts[0].has(&entry.key) {
                let key = entry.key.clone();
                self.parts[0].take(0, &key, entry.into());
                continue;
            }
            let named = self.parts[1..].iter().find(|part| part.name == entry.key);
            let hint = match named {
                Some(part) if part.list_spec.is_some() => {
                    Some(format!("{} for each {} would work", part.head(), part.name))
                }
                Some(part) => Some(format!("{} would work", part.head())),
                None => self.belongs(&entry.key, 0),
            };
            self.no_setting(0, entry, hint);
        }
        let mut counts = vec![0; self.parts.len()];
        for block in document.blocks {
            let at = self.parts[1..].iter().position(|part| part.name == block.name).map(|at| at + 1);
            match at.map(|at| (at, self.parts[at].list_spec.is_some())) {
                Some((at, true)) if block.listed => {
                    self.take_item(block, at, counts[at]);
                    counts[at] += 1;
                }
                Some((at, false)) if !block.listed => {
                    let written = self.read_block(at, block);
                    self.parts[at].items[0].1.extend(written);
                }
                at => self.no_table(block, at.map(|(at, _)| at)),
            }
        }
    }

    fn no_setting(&mut self, part: usize, entry: super::document::Entry, hint: Option<String>) {
        let what = format!("'{}' is no setting of {}", entry.key, self.parts[part].whose());
        let known: Vec<_> = self.parts[part].keys().collect();
        self.unknown(what, entry.key_at, &entry.key, known.into_iter(), hint);
    }

    /// A block of another form than that of its name, or of an unknown name.
    fn no_table(&mut self, block: Block, part: Option<usize>) {
        let name = block.name.as_str();
        let (what, hint) = match part.map(|at| &self.parts[at]) {
            Some(part) if part.list_spec.is_some() => {
                (format!("[{name}] is one table"), Some(format!("[[{name}]] for each {name} would work")))
            }
            Some(_) => (format!("[[{name}]] is a list of tables"), Some(format!("[{name}] would work"))),
            None => {
                let near = nearest(name, self.parts[1..].iter().map(|part| part.name.as_str()));
                let near = near.and_then(|near| self.parts.iter().find(|part| part.name == near));
                (
                    format!("[{name}] is no table of this configuration"),
                    near.map(|part| format!("{} would work", part.head())),
                )
            }
        };
        let known: Vec<_> = self.parts[1..].iter().map(|part| part.name.clone()).collect();
        self.unknown(what, block.at.clone(), name, known.iter().map(String::as_str), hint);
    }

    /// What a block says of its part's settings.
    fn read_block(&mut self, at: usize, block: Block) -> Candidates {
        let mut written = Candidates::new();
        for entry in block.entries {
            if self.parts[at].has(&entry.key) {
                written.entry(entry.key.clone()).or_default().push(entry.into());
            } else {
                let hint = self.belongs(&entry.key, at);
                self.no_setting(at, entry, hint);
            }
        }
        written
    }

    /// Takes an item of a list: so many were there before.
    fn take_item(&mut self, block: Block, at: usize, before: usize) {
        let (part, Some(listed)) = (&self.parts[at], self.parts[at].list_spec) else { return };
        let list = part.name.clone();
        let name =
            block.entries.iter().find(|entry| entry.key == "name").and_then(|entry| match &entry.value {
                Owned::Text(name) => Some((name.clone(), entry.value_at.clone())),
                _ => None,
            });
        let title = name.as_ref().map_or_else(|| format!("{list}{}", before + 1), |(name, _)| name.clone());
        let owner = owner_of(&list, &title);
        // One without a name is told by its number.
        let told = if name.is_some() { owner.clone() } else { format!("[[{list}]] {}", before + 1) };
        // Where they are declared here there may be many, and none is looked up.
        let own = part.is_fixed.then(|| part.items.iter().position(|(name, _)| *name == title)).flatten();
        if let Some((_, origin)) =
            name.as_ref().filter(|_| own.is_some_and(|own| part.items[own].1.contains_key("name")))
        {
            let texts = [
                format!("{owner} stands twice"),
                "one of the two would cover the other".to_string(),
                format!("one {} of that name would work", part.head()),
            ];
            let setting = format!("{owner}: name");
            return self.problems.push(Problem::new(Rule::Value, setting, Some(origin.clone()), texts));
        }
        if let (true, None, Some((name, origin))) = (part.is_fixed, own, name) {
            let what = format!("this command has no {list} '{name}'");
            let known: Vec<_> = part.items.iter().map(|(name, _)| name.clone()).collect();
            return self.unknown(what, origin, &name, known.iter().map(String::as_str), None);
        }
        let named = if part.is_fixed { &listed.named[..1] } else { listed.named };
        for key in named.iter().filter(|key| block.entries.iter().all(|entry| entry.key != **key)) {
            let texts = [
                format!("{told} has no {key}"),
                match *key {
                    "name" => format!("each {list} is known by its name"),
                    _ => listed.why.to_string(),
                },
                format!("{key} = …, {}, would work", self.parts[at].kind_of(key)),
            ];
            let setting = format!("{owner}: {key}");
            self.problems.push(Problem::new(Rule::Missing, setting, Some(block.at.clone()), texts));
        }
        let written = self.read_block(at, block);
        let items = &mut self.parts[at].items;
        match own {
            Some(own) => items[own].1.extend(written),
            None => items.push((title, written)),
        }
    }
}
