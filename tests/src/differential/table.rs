//! The table of the differences that are known, `differential.md`.

use std::cell::Cell;
use std::collections::BTreeMap;

/// Two hosts answered a case differently.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Kind of packet.
    pub kind: &'static str,
    /// What was changed in it.
    pub changed: Vec<&'static str>,
    /// What Linux answered.
    pub linux: String,
    /// What the engine answered.
    pub engine: String,
}

/// One row: a class of packets, what each host makes of it, and why.
#[derive(Clone, Debug)]
struct Row {
    kinds: Vec<String>,
    changed: Vec<String>,
    linux: String,
    engine: String,
    /// Whether it need not be met.
    seldom: bool,
    seen: Cell<u32>,
}

/// All rows.
#[derive(Clone, Debug)]
pub struct Table(Vec<Row>);

impl Table {
    /// Reads the rows of a Markdown file: packet, changed, Linux, Barewire, why.
    ///
    /// # Panics
    /// If one has not five columns, or no reason.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (always, seldom) = text.split_once("\n## Seldom").unwrap_or((text, ""));
        let rows = |part: &str, seldom| -> Vec<Row> {
            part.lines().filter(|line| line.starts_with("| `")).map(|line| Row { seldom, ..Row::parse(line) }).collect()
        };
        Self([rows(always, false), rows(seldom, true)].concat())
    }

    /// Whether a row names the difference.
    #[must_use]
    pub fn names(&self, difference: &Difference) -> bool {
        let row = self.0.iter().find(|row| row.matches(difference));
        row.inspect(|row| row.seen.set(row.seen.get() + 1)).is_some()
    }

    /// The rows that named nothing, though they always should.
    #[must_use]
    pub fn unseen(&self) -> Vec<String> {
        let unseen = self.0.iter().filter(|row| row.seen.get() == 0 && !row.seldom);
        unseen.map(|row| format!("{:?} {:?}: {} / {}", row.kinds, row.changed, row.linux, row.engine)).collect()
    }

    /// How many differences each row named.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u32> {
        let count =
            |row: &Row| (format!("{:?} {:?}: {} / {}", row.kinds, row.changed, row.linux, row.engine), row.seen.get());
        self.0.iter().map(count).collect()
    }
}

impl Row {
    fn parse(line: &str) -> Self {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [kinds, changed, linux, engine, why] = columns[..] else { panic!("not five columns: {line}") };
        assert!(why.len() >= "The same".len(), "no reason: {line}");
        let list = |text: &str| text.split(", ").map(|item| item.trim_matches('`').to_owned()).collect::<Vec<_>>();
        let (linux, engine) = (linux.to_owned(), engine.to_owned());
        Self { kinds: list(kinds), changed: list(changed), linux, engine, seldom: false, seen: Cell::new(0) }
    }

    fn matches(&self, difference: &Difference) -> bool {
        let is_kind = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => difference.kind.starts_with(start),
            None => difference.kind == pattern,
        };
        let is_changed = |name: &String| name == "any" || difference.changed.contains(&name.as_str());
        self.kinds.iter().any(is_kind)
            && self.changed.iter().any(is_changed)
            && says(&self.linux, &difference.linux)
            && says(&self.engine, &difference.engine)
            && self.explains_numbers(difference)
    }

    /// Whether the numbers of two answers of one kind (`at=40`, `#3f5a`) are the same but for those that this row names
    /// (`at=*`, `#*`).
    fn explains_numbers(&self, Difference { linux, engine, .. }: &Difference) -> bool {
        let is_named = |number: &str| {
            let name = number.find(['=', '#']).map_or(number, |at| &number[..=at]);
            numbers(&self.linux).chain(numbers(&self.engine)).any(|named| named.strip_suffix('*') == Some(name))
        };
        let is_same =
            |number: &str| numbers(linux).any(|other| other == number) && numbers(engine).any(|other| other == number);
        words(linux).ne(words(engine))
            || numbers(linux).chain(numbers(engine)).all(|number| is_same(number) || is_named(number))
    }
}

/// Whether an answer is what a column says, but for the numbers. `*` stands for any word.
fn says(column: &str, answer: &str) -> bool {
    let mut answer = words(answer);
    words(column).all(|expected| answer.next().is_some_and(|word| expected == "*" || expected == word))
        && answer.next().is_none()
}

fn is_number(word: &&str) -> bool {
    word.contains(['=', '#'])
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !is_number(word))
}

fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_what_it_says_and_nothing_else() {
        let text = "| Packet | Changed | Linux | Barewire | Why |\n|---|---|---|---|---|\n\
            | `v4 udp*`, `v4 echo` | `TTL`, `DF` | nothing | error 3/3 | because it is so |\n";
        let table = Table::parse(text);
        let seen = Difference {
            kind: "v4 udp closed",
            changed: vec!["DF", "MF"],
            linux: "nothing".into(),
            engine: "error 3/3 at=0 quoting=28".into(),
        };
        assert!(table.names(&seen));
        assert_eq!(table.unseen().len(), 0);
        for other in [
            Difference { kind: "v6 udp", ..seen.clone() },
            Difference { changed: vec!["MF"], ..seen.clone() },
            Difference { linux: "error 3/3 at=0".into(), ..seen.clone() },
            Difference { engine: "error 3/3 at=0 altered".into(), ..seen },
        ] {
            assert!(!table.names(&other), "{other:?}");
        }
    }

    #[test]
    fn numbers_that_a_row_does_not_name_are_the_same() {
        let table = Table::parse("| `v4 *` | any | error * at=* | error * | because it is so |");
        let seen = |linux: &str, engine: &str| {
            let (linux, engine) = (linux.to_owned(), engine.to_owned());
            table.names(&Difference { kind: "v4 udp", changed: Vec::new(), linux, engine })
        };
        assert!(seen("error 3/3 at=1 quoting=28", "error 3/3 at=2 quoting=28"));
        assert!(seen("error 3/3 at=1 quoting=28", "error 3/2 at=2 quoting=29"), "another answer altogether");
        assert!(!seen("error 3/3 at=1 quoting=28", "error 3/3 at=1 quoting=29"));
        assert!(!seen("error 3/3 quoting=28", "error 3/3"));
    }
}
