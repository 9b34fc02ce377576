//! Holds the engine to RFC 9293: every MUST is cited over the code that does it and over the test that shows it.
//!
//! `rfc9293.toml` lists the numbered requirements of the RFC. `rfc9293.md` is written from that list and from the
//! comments that cite it (`src/citations.rs` says how they look), and compared here. Every rule is a function to
//! complaints, and has a planted violation below that it must find.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use barewire_tests::citations::{Citation, KINDS, citations};
use barewire_tests::source::{Source, files};

/// Requirements of each kind in the RFC's appendix B. They are numbered from 1, without a gap.
const COUNTS: &[(&str, u32)] = &[("MUST", 69), ("SHLD", 31), ("MAY", 18), ("REC", 1)];

/// Where citations are looked for.
const CITING: &[&str] = &["engine/src/", "tests/"];

/// Set to 1 to write the table anew instead of comparing it.
const UPDATE: &str = "UPDATE_RFC_TABLE";

/// A requirement's place in the order: that of `KINDS`, then its number.
type Number = (usize, u32);

/// A numbered requirement.
#[derive(Debug, Default)]
struct Requirement {
    section: String,
    /// The sentence of the RFC.
    quote: String,
    /// The RFC's words under which it holds.
    condition: Option<String>,
    /// Why they do not hold here.
    not_applicable: Option<String>,
    /// Why it is not followed, though it should be.
    not_done: Option<String>,
    /// Where it is cited in the code, and in the tests.
    code: BTreeSet<Place>,
    tests: BTreeSet<Place>,
}

/// A file and the name of an item in it.
type Place = (String, String);

type Requirements = BTreeMap<Number, Requirement>;

#[test]
fn every_must_of_rfc_9293_is_cited_by_code_and_by_a_test() {
    hold(unproved);
}

#[test]
fn every_should_of_rfc_9293_is_followed_or_says_why_not() {
    hold(undecided);
}

#[test]
fn excuses_are_allowed_and_needed() {
    hold(excuses);
}

#[test]
fn the_list_of_requirements_is_complete() {
    hold(gaps);
}

#[test]
fn every_citation_names_a_requirement() {
    let (_, complaints) = read();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_table_is_up_to_date() {
    let table = render(&read().0);
    let file = beside("rfc9293.md");
    if std::env::var(UPDATE).is_ok_and(|value| value == "1") {
        fs::write(&file, table).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        return;
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    let different = (1..).zip(committed.lines().zip(table.lines())).find(|(_, (committed, now))| committed != now);
    let first = different.map_or(String::new(), |(line, (_, now))| format!("Line {line} would now be:\n{now}\n"));
    assert!(
        committed == table,
        "tests/rfc9293.md is not what the citations in the sources make of tests/rfc9293.toml.\n{first}\
         To write it anew: {UPDATE}=1 cargo test -p barewire-tests --test rfc9293\n"
    );
}

/// Fails with all complaints that `rule` has.
fn hold(rule: fn(&Requirements) -> Vec<String>) {
    let complaints = rule(&read().0);
    assert!(complaints.is_empty(), "{} of them:\n{}\n", complaints.len(), complaints.join("\n"));
}

/// The requirements with all citations of the sources, and complaints about citations.
fn read() -> (Requirements, Vec<String>) {
    let file = beside("rfc9293.toml");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut requirements = parse(&text);
    let mut complaints = Vec::new();
    for (path, text) in files(&["rs"]) {
        if CITING.iter().any(|directory| path.starts_with(directory)) {
            let (found, of_file) = citations(&Source::parse(&path, &text));
            complaints.extend(of_file);
            complaints.extend(cite(&mut requirements, found));
        }
    }
    (requirements, complaints)
}

fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn parse(text: &str) -> Requirements {
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("rfc9293.toml: {error}"));
    let of_entry = |(name, value): (&String, &toml::Value)| {
        let number = number(name).unwrap_or_else(|| panic!("rfc9293.toml: {name} is no number of the RFC's"));
        let fields = value.as_table().unwrap_or_else(|| panic!("rfc9293.toml: {name} is no table"));
        let mut requirement = Requirement::default();
        for (key, value) in fields {
            let value = value.as_str().unwrap_or_else(|| panic!("rfc9293.toml: {name}.{key} is no string")).to_string();
            match key.as_str() {
                "section" => requirement.section = value,
                "quote" => requirement.quote = value,
                "condition" => requirement.condition = Some(value),
                "not_applicable" => requirement.not_applicable = Some(value),
                "not_done" => requirement.not_done = Some(value),
                _ => panic!("rfc9293.toml: {name}.{key} is unknown"),
            }
        }
        assert!(!requirement.section.is_empty(), "rfc9293.toml: {name} has no section");
        assert!(!requirement.quote.is_empty(), "rfc9293.toml: {name} has no quote");
        (number, requirement)
    };
    table.iter().map(of_entry).collect()
}

fn number(text: &str) -> Option<Number> {
    let (kind, digits) = text.split_once('-')?;
    Some((KINDS.iter().position(|known| *known == kind)?, digits.parse().ok()?))
}

fn name((kind, digits): Number) -> String {
    format!("{}-{digits}", KINDS[kind])
}

/// Enters citations into the requirements that they cite. Complains about those that cite none.
fn cite(requirements: &mut Requirements, found: Vec<Citation>) -> Vec<String> {
    let mut complaints = Vec::new();
    for Citation { number: cited, path, item, test } in found {
        match number(&cited).and_then(|number| requirements.get_mut(&number)) {
            None => complaints.push(format!("{path}: {item} cites {cited}, which RFC 9293 does not have")),
            Some(requirement) if test => _ = requirement.tests.insert((path, item)),
            Some(requirement) => _ = requirement.code.insert((path, item)),
        }
    }
    complaints
}

impl Requirement {
    /// What a citation lacks, or nothing if both are there.
    fn lacks(&self) -> Option<&'static str> {
        match (self.code.is_empty(), self.tests.is_empty()) {
            (false, false) => None,
            (true, false) => Some("no code cites it"),
            (false, true) => Some("no test cites it"),
            (true, true) => Some("neither code nor a test cites it"),
        }
    }

    /// The word of the RFC that says how strong it is.
    fn level(&self, kind: &str) -> String {
        let word = match kind {
            "SHLD" => "SHOULD",
            "REC" => "RECOMMENDED",
            kind => kind,
        };
        let negative = format!("{word} NOT");
        if self.quote.contains(&negative) { negative } else { word.to_string() }
    }
}

/// Requirements of the wanted kinds with what they lack, if nothing excuses them.
fn lacking(requirements: &Requirements, kinds: &[&str]) -> Vec<String> {
    let wanted = requirements.iter().filter(|((kind, _), _)| kinds.contains(&KINDS[*kind]));
    let excused = |r: &Requirement| r.not_applicable.is_some() || r.not_done.is_some();
    wanted
        .filter(|(_, requirement)| !excused(requirement))
        .filter_map(|(number, r)| Some(format!("{}: {}: {}", name(*number), r.lacks()?, r.quote)))
        .collect()
}

fn unproved(requirements: &Requirements) -> Vec<String> {
    lacking(requirements, &["MUST"])
}

fn undecided(requirements: &Requirements) -> Vec<String> {
    let complaints = lacking(requirements, &["SHLD", "REC"]).into_iter();
    complaints.map(|complaint| format!("{complaint} (or say in tests/rfc9293.toml why it is not_done)")).collect()
}

fn excuses(requirements: &Requirements) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, requirement) in requirements {
        let (name, kind) = (name(*number), KINDS[number.0]);
        let Requirement { condition, not_applicable, not_done, .. } = requirement;
        if not_applicable.is_some() && condition.is_none() {
            complaints.push(format!("{name} is said to be not applicable, and has no condition"));
        }
        if not_applicable.is_some() && (!requirement.code.is_empty() || !requirement.tests.is_empty()) {
            complaints.push(format!("{name} is said to be not applicable, and is cited"));
        }
        if not_done.is_some() && !matches!(kind, "SHLD" | "REC") {
            complaints.push(format!("{name} cannot be excused by not_done: it is a {kind}"));
        }
        if not_done.is_some() && requirement.lacks().is_none() {
            complaints.push(format!("{name} is said to be not done, and is cited by code and by a test"));
        }
        if [not_applicable, not_done].into_iter().flatten().any(|reason| reason.trim().is_empty()) {
            complaints.push(format!("{name} is excused without a reason"));
        }
    }
    complaints
}

fn gaps(requirements: &Requirements) -> Vec<String> {
    let wanted = COUNTS.iter().flat_map(|(kind, count)| (1..=*count).map(move |digits| format!("{kind}-{digits}")));
    let wanted: BTreeSet<Number> = wanted.filter_map(|name| number(&name)).collect();
    let listed: BTreeSet<Number> = requirements.keys().copied().collect();
    let missing = wanted.difference(&listed).map(|number| format!("{} is missing", name(*number)));
    let invented = listed.difference(&wanted).map(|number| format!("RFC 9293 has no {}", name(*number)));
    missing.chain(invented).collect()
}

/// The table, in Markdown.
fn render(requirements: &Requirements) -> String {
    let mut text = "# RFC 9293, requirement by requirement\n\n".to_string();
    let _ = writeln!(
        text,
        "The numbers are those of the RFC's appendix B. This is written from `rfc9293.toml` and from the comments that\n\
         cite it, and is checked, by `tests/rfc9293.rs`. To write it anew:\n\
         `{UPDATE}=1 cargo test -p barewire-tests --test rfc9293`\n"
    );
    text += "| | in all | in code and test | not applicable | not done |\n|---|---|---|---|---|\n";
    for (kind, _) in COUNTS {
        let of_kind: Vec<&Requirement> =
            requirements.iter().filter(|((k, _), _)| KINDS[*k] == *kind).map(|(_, requirement)| requirement).collect();
        let count = |counts: fn(&Requirement) -> bool| of_kind.iter().filter(|requirement| counts(requirement)).count();
        let (done, not_applicable) = (count(|r| r.lacks().is_none()), count(|r| r.not_applicable.is_some()));
        let all = of_kind.len();
        let _ = writeln!(text, "| {kind} | {all} | {done} | {not_applicable} | {} |", all - done - not_applicable);
    }
    text += "\n| number | level | section | requirement | code | test |\n|---|---|---|---|---|---|\n";
    for (number, requirement) in requirements {
        let Requirement { section, quote, .. } = requirement;
        let (name, level) = (name(*number), requirement.level(KINDS[number.0]));
        let section = format!("[{section}](https://www.rfc-editor.org/rfc/rfc9293#section-{section})");
        let (code, tests) = proof(requirement);
        let _ = writeln!(text, "| {name} | {level} | {section} | {quote} | {code} | {tests} |");
    }
    text
}

/// The columns for code and tests.
fn proof(requirement: &Requirement) -> (String, String) {
    let Requirement { condition, not_applicable, not_done, code, tests, .. } = requirement;
    let list = |places: &BTreeSet<Place>| {
        let link = |(path, item): &Place| {
            let file = path.strip_prefix("engine/src/").unwrap_or(path);
            format!("`{item}` in [{file}](../{path})")
        };
        places.iter().map(link).collect::<Vec<_>>().join("<br>")
    };
    match (not_applicable, not_done) {
        (Some(reason), _) => {
            let condition = condition.as_deref().unwrap_or_default();
            (format!("not applicable (\"{condition}\"): {reason}"), String::new())
        }
        (None, Some(reason)) => (format!("not done: {reason}"), list(tests)),
        (None, None) => (list(code), list(tests)),
    }
}

mod planted {
    use super::*;

    /// A MUST and a SHOULD NOT, one of them with more `fields` (the one that may be `not_done`, if that is the
    /// field), cited by `places`: number, item, and whether it is a test. And complaints about the citations.
    fn planted(fields: &str, places: &[(&str, &str, bool)]) -> (Requirements, Vec<String>) {
        let must = "[MUST-1]\nsection = \"3.1\"\nquote = \"It MUST be.\"\n";
        let should = "[SHLD-1]\nsection = \"3.2\"\nquote = \"It SHOULD NOT be.\"\n";
        let text = if fields.starts_with("not_done") { [must, should, fields] } else { [should, must, fields] };
        let mut requirements = parse(&text.concat());
        let of_place = |&(number, item, test): &(&str, &str, bool)| Citation {
            number: number.to_string(),
            path: if test { "tests/tests/x.rs" } else { "engine/src/x.rs" }.to_string(),
            item: item.to_string(),
            test,
        };
        let complaints = cite(&mut requirements, places.iter().map(of_place).collect());
        (requirements, complaints)
    }

    const BOTH: &[(&str, &str, bool)] = &[("MUST-1", "does", false), ("MUST-1", "shows", true)];

    #[test]
    fn a_must_without_code_or_without_a_test_is_found() {
        let found = |places| unproved(&planted("", places).0);
        assert_eq!(found(&[]).len(), 1);
        assert!(found(&BOTH[..1])[0].contains("no test"));
        assert!(found(&BOTH[1..])[0].contains("no code"));
        assert_eq!(found(BOTH), [""; 0]);
        assert_eq!(unproved(&planted("condition = \"If\"\nnot_applicable = \"No\"", &[]).0), [""; 0]);
    }

    #[test]
    fn a_should_without_citations_and_without_a_reason_is_found() {
        assert_eq!(undecided(&planted("", &[]).0).len(), 1);
        assert_eq!(undecided(&planted("", &[("SHLD-1", "does", false)]).0).len(), 1);
        assert_eq!(undecided(&planted("", &[("SHLD-1", "does", false), ("SHLD-1", "shows", true)]).0), [""; 0]);
        assert_eq!(undecided(&planted("not_done = \"It costs.\"", &[]).0), [""; 0]);
    }

    #[test]
    fn excuses_that_dodge_or_contradict_are_found() {
        let found = |fields, places| excuses(&planted(fields, places).0).len();
        assert_eq!(found("not_applicable = \"No\"", &[]), 1);
        assert_eq!(found("condition = \"If\"\nnot_applicable = \"No\"", &[]), 0);
        assert_eq!(found("condition = \"If\"\nnot_applicable = \" \"", &[]), 1);
        assert_eq!(found("condition = \"If\"\nnot_applicable = \"No\"", &BOTH[..1]), 1);
        assert_eq!(found("condition = \"If\"\nnot_done = \"No\"", &[]), 1);
        assert_eq!(found("not_done = \"It costs.\"", &[]), 0);
        assert_eq!(found("not_done = \"It costs.\"", &[("SHLD-1", "does", false), ("SHLD-1", "shows", true)]), 1);
    }

    #[test]
    fn a_requirement_that_is_dropped_or_invented_is_found() {
        let all: u32 = COUNTS.iter().map(|(_, count)| count).sum();
        assert_eq!(gaps(&planted("", &[]).0).len(), all as usize - 2);
        let mut requirements = read().0;
        requirements.insert((0, 70), Requirement::default());
        assert_eq!(gaps(&requirements), ["RFC 9293 has no MUST-70"]);
    }

    #[test]
    fn a_citation_of_nothing_is_found() {
        assert_eq!(planted("", &[("MUST-70", "does", false)]).1.len(), 1);
        assert_eq!(planted("", BOTH).1, [""; 0]);
    }

    #[test]
    fn the_table_links_code_and_tests_and_gives_excuses() {
        let text = render(&planted("not_done = \"It costs.\"", BOTH).0);
        assert!(text.contains("| MUST | 1 | 1 | 0 | 0 |"), "{text}");
        assert!(
            text.contains(
                "| `does` in [x.rs](../engine/src/x.rs) | `shows` in [tests/tests/x.rs](../tests/tests/x.rs) |"
            )
        );
        assert!(text.contains("| SHLD-1 | SHOULD NOT |") && text.contains("| not done: It costs. |"), "{text}");
    }
}
