//! Finds the comments that cite a numbered requirement of RFC 9293, and says over which item each stands.
//!
//! A citation is a comment on lines of its own that names the RFC and then, in the same block of lines, one or
//! more of its numbers: `// RFC 9293, section 3.8.4 (MUST-n): what it asks for.` In `engine/src` it cites the code
//! that does it, in code that is compiled for tests the test that shows it.

use std::collections::HashSet;

use crate::source::{Source, Token};

/// How the RFC has to be named, before the numbers.
pub const RFC: &str = "RFC 9293";

/// What the numbers of requirements begin with.
pub const KINDS: &[&str] = &["MUST", "SHLD", "MAY", "REC"];

/// A comment that cites a requirement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Citation {
    /// The requirement's number, as in the RFC's appendix B.
    pub number: String,
    /// The file that it stands in.
    pub path: String,
    /// The function that it stands in, or the item below it.
    pub item: String,
    /// Whether that is compiled for tests only.
    pub test: bool,
}

/// The citations of a source, and complaints about those that are none.
#[must_use]
pub fn citations(source: &Source) -> (Vec<Citation>, Vec<String>) {
    let (mut found, mut complaints) = (Vec::new(), Vec::new());
    for block in blocks(source) {
        let named = block.text.find(RFC);
        for (at, number) in numbers(&block.text) {
            let place = item(source, &block);
            match place {
                _ if named.is_none_or(|named| named > at) => {
                    complaints.push(format!("{}: {number} without `{RFC}` before it", source.at(block.first)));
                }
                None => complaints.push(format!(
                    "{}: {number} stands over no item: cite it over the line that does or shows it",
                    source.at(block.first)
                )),
                Some((item, test)) => {
                    let item = item.to_string();
                    found.push(Citation { number: number.to_string(), path: source.path.clone(), item, test });
                }
            }
        }
    }
    (found, complaints)
}

/// Comment lines without anything between them.
struct Block {
    /// First and last line, from 1.
    first: usize,
    last: usize,
    /// What they say, in one line.
    text: String,
    /// Whether it describes what it stands in.
    inner: bool,
}

fn blocks(source: &Source) -> Vec<Block> {
    let quoted = lines_of_literals(source);
    let mut blocks: Vec<Block> = Vec::new();
    for (line, text) in (1..).zip(&source.lines) {
        let Some(comment) = text.trim_start().strip_prefix("//").filter(|_| !quoted.contains(&line)) else { continue };
        let inner = comment.starts_with('!');
        let said = comment.trim_start_matches(['/', '!']).trim();
        match blocks.last_mut() {
            Some(block) if block.last + 1 == line && block.inner == inner => {
                block.last = line;
                block.text = format!("{} {said}", block.text);
            }
            _ => blocks.push(Block { first: line, last: line, text: said.to_string(), inner }),
        }
    }
    blocks
}

/// Lines that begin within a string.
fn lines_of_literals(source: &Source) -> HashSet<usize> {
    let ends = |token: &Token| token.line + token.text.matches('\n').count();
    source.tokens.iter().flat_map(|token| token.line + 1..=ends(token)).collect()
}

/// The numbers that a text names, each with where.
fn numbers(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for kind in KINDS {
        for (at, _) in text.match_indices(&format!("{kind}-")) {
            let digits = text[at + kind.len() + 1..].bytes().take_while(u8::is_ascii_digit).count();
            if digits > 0 && !text[..at].ends_with(char::is_alphanumeric) {
                found.push((at, &text[at..at + kind.len() + 1 + digits]));
            }
        }
    }
    found
}

/// The name of the function around a block of comments, or of the item below it; and whether that is a test.
fn item<'a>(source: &'a Source, block: &Block) -> Option<(&'a str, bool)> {
    if block.inner {
        return None;
    }
    let below = source.tokens.iter().position(|token| token.line > block.last)?;
    let mut around = source.functions.iter().filter(|f| f.line <= block.first && block.last < f.line + f.lines);
    // An inner function is listed behind the one that it stands in.
    if let Some(function) = around.next_back() {
        return Some((&*function.name, source.tokens[below].test));
    }
    let mut i = below;
    while source.text(i) == "#" {
        i = behind(source, i + 1, "[", "]");
    }
    let test = source.tokens.get(i)?.test;
    loop {
        i = match source.text(i) {
            "pub" if source.text(i + 1) == "(" => behind(source, i + 1, "(", ")"),
            "impl" if source.text(i + 1) == "<" => behind(source, i + 1, "<", ">"),
            "pub" | "const" | "async" | "unsafe" | "extern" | "fn" | "struct" | "enum" | "union" | "static"
            | "type" | "trait" | "mod" | "impl" => i + 1,
            name => return name.starts_with(|c: char| c.is_alphabetic() || c == '_').then_some((name, test)),
        }
    }
}

/// The token behind the bracket that closes the one at `start`.
fn behind(source: &Source, start: usize, open: &str, close: &str) -> usize {
    let mut depth = 0;
    for i in start..source.tokens.len() {
        depth += usize::from(source.text(i) == open);
        if source.text(i) == close {
            depth -= 1;
            if depth == 0 {
                return i + 1;
            }
        }
    }
    source.tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number, item and whether it is a test, of every citation.
    fn found(path: &str, text: &str) -> Vec<(String, String, bool)> {
        let (found, complaints) = citations(&Source::parse(path, text));
        assert_eq!(complaints, [""; 0]);
        found.into_iter().map(|citation| (citation.number, citation.item, citation.test)).collect()
    }

    fn one(number: &str, item: &str, test: bool) -> Vec<(String, String, bool)> {
        vec![(number.to_string(), item.to_string(), test)]
    }

    #[test]
    fn a_citation_belongs_to_the_function_around_it_or_the_item_below_it() {
        let cited = "// RFC 9293, section 3.1 (MUST-1): unsigned.\n";
        let code = |text: &str| found("engine/src/x.rs", &text.replace('@', cited));
        assert_eq!(code("fn f() {\n@let x = 1; }"), one("MUST-1", "f", false));
        assert_eq!(code("fn f() { fn g() {\n@} }"), one("MUST-1", "g", false));
        assert_eq!(code("fn f() { x();\n@}\nfn g() {}"), one("MUST-1", "f", false));
        assert_eq!(code("fn f() {}\n@#[inline]\n#[must_use]\npub(crate) const fn g() {}"), one("MUST-1", "g", false));
        assert_eq!(code("@pub const X: u8 = 1;"), one("MUST-1", "X", false));
        assert_eq!(code("@impl<T: Into<U>> From<T> for X {}"), one("MUST-1", "From", false));
        assert_eq!(code("struct S {\n@pub field: u8 }"), one("MUST-1", "field", false));
    }

    #[test]
    fn citations_in_test_code_are_tests() {
        let text = "#[cfg(test)]\nmod tests {\n/// RFC 9293 (SHLD-3).\n#[test]\nfn t() {}\n}";
        assert_eq!(found("engine/src/x.rs", text), one("SHLD-3", "t", true));
        let text = "// RFC 9293 (MAY-4).\nfn f() {}";
        assert_eq!(found("engine/src/x.rs", text), one("MAY-4", "f", false));
        assert_eq!(found("engine/src/x_tests.rs", text), one("MAY-4", "f", true));
        assert_eq!(found("tests/src/sim/peer.rs", text), one("MAY-4", "f", true));
    }

    #[test]
    fn a_block_may_break_its_lines_and_cite_several() {
        let text = "/// The RFC\n/// says (RFC\n/// 9293, MUST-25,\n/// MUST-260).\nfn f() {}";
        let numbers: Vec<String> = found("engine/src/x.rs", text).into_iter().map(|(number, ..)| number).collect();
        assert_eq!(numbers, ["MUST-25", "MUST-260"]);
        assert_eq!(found("engine/src/x.rs", "// RFC 9293 says MUST-n, DISMAY-3.\nfn f() {}"), []);
    }

    #[test]
    fn strings_and_code_cite_nothing() {
        assert_eq!(found("engine/src/x.rs", "fn f() { let x = \"\n// RFC 9293 (MUST-1)\n\"; }"), []);
        assert_eq!(found("engine/src/x.rs", "fn f() { let x = \"// RFC 9293 (MUST-1)\"; }"), []);
    }

    #[test]
    fn a_number_without_the_rfc_or_over_nothing_is_complained_about() {
        let complaints = |text: &str| citations(&Source::parse("engine/src/x.rs", text)).1.len();
        assert_eq!(complaints("// MUST-1: unsigned.\nfn f() {}"), 1);
        assert_eq!(complaints("// MUST-1: unsigned (RFC 9293).\nfn f() {}"), 1);
        assert_eq!(complaints("// RFC 9293.\n\n// MUST-1: unsigned.\nfn f() {}"), 1);
        assert_eq!(complaints("//! RFC 9293 (MUST-1).\nfn f() {}"), 1);
        assert_eq!(complaints("fn f() {}\n// RFC 9293 (MUST-1)."), 1);
        assert_eq!(complaints("// RFC 9293 (MUST-1).\nfn f() {}"), 0);
    }
}
