//! Reads the sources of the workspace as tokens, each with where it stands: so that rules about what may be
//! written where can be checked without being fooled by comments, strings or the way that lines are broken.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

/// A Rust source file.
#[derive(Debug)]
pub struct Source {
    /// Path within the workspace, with slashes.
    pub path: String,
    /// The lines of the file, as they are written.
    pub lines: Vec<String>,
    /// The file without comments.
    pub tokens: Vec<Token>,
    /// The functions that have a body.
    pub functions: Vec<Function>,
}

/// An identifier, a literal or a mark. Brackets are marks, `::` is one mark.
#[derive(Clone, Debug)]
pub struct Token {
    /// How it is written.
    pub text: String,
    /// Where, from 1.
    pub line: usize,
    /// The function that it is in.
    pub function: Option<Rc<str>>,
    /// Whether it is compiled for tests only.
    pub test: bool,
    /// Number of `mod name { }` around it in this file.
    pub mods: usize,
}

/// A function with a body.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: Rc<str>,
    /// Where it starts, from 1.
    pub line: usize,
    /// Lines from there to its closing brace.
    pub lines: usize,
}

impl Source {
    /// Reads `text`, which stands at `path`.
    ///
    /// # Panics
    /// If it is not Rust.
    #[must_use]
    pub fn parse(path: &str, text: &str) -> Self {
        let stream: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        let lines = text.lines().map(str::to_string).collect();
        let mut source = Self { path: path.to_string(), lines, tokens: Vec::new(), functions: Vec::new() };
        source.read(stream, &Place { test: is_test_file(path), function: None, mods: 0 });
        source
    }

    /// Where the tokens `wanted` stand one after the other: the first one of each.
    pub fn find<'a>(&'a self, wanted: &'a [&str]) -> impl Iterator<Item = (usize, &'a Token)> {
        let windows = self.tokens.windows(wanted.len().max(1)).enumerate();
        windows
            .filter(move |(_, tokens)| tokens.iter().map(|token| &token.text).eq(wanted))
            .map(|(i, tokens)| (i, &tokens[0]))
    }

    /// The text of the token at `index`, or nothing beyond the end.
    #[must_use]
    pub fn text(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| &token.text)
    }

    /// `path:line`, to begin a message with.
    #[must_use]
    pub fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }

    fn read(&mut self, stream: TokenStream, place: &Place) {
        let mut item = Item::default();
        let mut trees = stream.into_iter().peekable();
        while let Some(tree) = trees.next() {
            let line = tree.span().start().line;
            let inside = Place {
                test: place.test || item.test,
                function: item.function.as_ref().map(|(name, _)| name.clone()).or_else(|| place.function.clone()),
                mods: place.mods,
            };
            match tree {
                TokenTree::Group(group) => self.read_group(&group, inside, &mut item),
                TokenTree::Punct(punct) => {
                    let mut text = punct.as_char().to_string();
                    if text == ":" && punct.spacing() == Spacing::Joint && trees.next_if(is_colon).is_some() {
                        text.push(':');
                    }
                    if text == ";" {
                        item = Item::default();
                    }
                    self.push(text, line, &inside);
                }
                TokenTree::Ident(ident) => {
                    let text = ident.to_string();
                    if let Some(TokenTree::Ident(name)) = trees.peek() {
                        match text.as_str() {
                            "fn" => item.function = Some((name.to_string().into(), line)),
                            "mod" => item.is_mod = true,
                            _ => {}
                        }
                    }
                    self.push(text, line, &inside);
                }
                TokenTree::Literal(literal) => self.push(literal.to_string(), line, &inside),
            }
        }
    }

    fn read_group(&mut self, group: &Group, mut inside: Place, item: &mut Item) {
        let (open, close) = match group.delimiter() {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Brace => ("{", "}"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::None => ("", ""),
        };
        let is_attribute = self.tokens.last().is_some_and(|token| token.text == "#");
        if is_attribute && is_test_attribute(group) {
            item.test = true;
        }
        let is_body = group.delimiter() == Delimiter::Brace;
        let end = group.span_close().start().line;
        if is_body {
            inside.mods += usize::from(item.is_mod);
            if let Some((name, line)) = item.function.take() {
                self.functions.push(Function { name, line, lines: end - line + 1 });
            }
            *item = Item::default();
        }
        self.push(open.to_string(), group.span_open().start().line, &inside);
        self.read(group.stream(), &inside);
        self.push(close.to_string(), end, &inside);
    }

    fn push(&mut self, text: String, line: usize, place: &Place) {
        let Place { test, ref function, mods } = *place;
        self.tokens.push(Token { text, line, function: function.clone(), test, mods });
    }
}

/// Whether a file is compiled for tests only, by its name or that of a directory around it.
fn is_test_file(path: &str) -> bool {
    let mut names = path.split('/').map(|name| name.strip_suffix(".rs").unwrap_or(name));
    names.any(|name| name == "tests" || name.ends_with("_tests"))
}

/// What surrounds a token.
struct Place {
    test: bool,
    function: Option<Rc<str>>,
    mods: usize,
}

/// What is known of an item before its body.
#[derive(Default)]
struct Item {
    test: bool,
    is_mod: bool,
    /// Name and line.
    function: Option<(Rc<str>, usize)>,
}

fn is_colon(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == ':')
}

/// `[test]` or `[cfg(test)]`, also with other conditions.
fn is_test_attribute(group: &Group) -> bool {
    let text = group.stream().to_string();
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words == ["test"] || (words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not"))
}

/// The workspace's directory.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Path within the workspace and text of every file with one of `extensions` (and of those with no
/// extension, for an empty one), in order. What git and cargo put there is left out.
///
/// # Panics
/// If one cannot be read.
#[must_use]
pub fn files(extensions: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&workspace(), "", extensions, &mut found);
    assert!(!found.is_empty(), "no source file under {}", workspace().display());
    found.sort();
    found
}

fn collect(directory: &Path, prefix: &str, extensions: &[&str], found: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries.map(|entry| entry.expect("a directory entry")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (path, inner) = (entry.path(), format!("{prefix}{name}"));
        // A corpus is bytes, not text.
        if name.starts_with(".git") || ["target", "corpus"].contains(&name.as_str()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(&path, &format!("{inner}/"), extensions, found);
        } else if extensions.contains(&path.extension().unwrap_or_default().to_str().unwrap_or("?")) {
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{inner}: {error}"));
            found.push((inner, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        //! dyn in a comment
        fn first<T: Into<[u8; 3]>>(x: &dyn Fn(u8)) -> bool {
            let fake = "dyn { in a string";
            x.call(|| { 1 });
        }
        trait Shape { fn no_body(&self); fn body(&self) {} }
        #[cfg(test)]
        use a::{b, c};
        struct Plain { f: fn(u8) -> u8 }
        #[cfg(test)]
        mod tests {
            fn inner() {
                dyn_name();
            }
        }
        fn last() {}
    "#;

    fn token<'a>(source: &'a Source, text: &str) -> &'a Token {
        source.tokens.iter().find(|token| token.text == text).unwrap_or_else(|| panic!("no {text}"))
    }

    #[test]
    fn comments_and_strings_hold_no_tokens() {
        let source = Source::parse("x.rs", TEXT);
        assert_eq!(source.find(&["dyn"]).map(|(_, token)| token.line).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn functions_with_a_body_are_measured() {
        let source = Source::parse("x.rs", TEXT);
        let functions: Vec<_> = source.functions.iter().map(|f| (&*f.name, f.line, f.lines)).collect();
        assert_eq!(functions, [("first", 3, 4), ("body", 7, 1), ("inner", 13, 3), ("last", 17, 1)]);
    }

    #[test]
    fn a_token_knows_its_function_its_modules_and_whether_it_is_a_test() {
        let source = Source::parse("x.rs", TEXT);
        let call = token(&source, "call");
        assert_eq!((call.function.as_deref(), call.test, call.mods), (Some("first"), false, 0));
        let inner = token(&source, "dyn_name");
        assert_eq!((inner.function.as_deref(), inner.test, inner.mods), (Some("inner"), true, 1));
        assert!(token(&source, "b").test);
        assert!(!token(&source, "Plain").test);
        assert!(!token(&source, "last").test);
        let all_test = |path: &str| Source::parse(path, "fn f() {}").tokens.iter().all(|token| token.test);
        assert!(all_test("engine/src/stack/tests.rs"));
        assert!(all_test("engine/src/stack/close_tests.rs"));
        assert!(all_test("engine/src/stack/close_tests/half.rs"));
        assert!(!all_test("engine/src/stack/contests.rs"));
    }

    #[test]
    fn sequences_are_found_across_line_breaks() {
        let source = Source::parse("x.rs", "use crate::\n  {a, b};\nfn f() { x\n.unwrap(); }");
        assert_eq!(source.find(&["crate", "::", "{"]).count(), 1);
        assert_eq!(source.find(&[".", "unwrap", "("]).map(|(_, token)| token.line).collect::<Vec<_>>(), [4]);
        assert_eq!(source.find(&["::", "unwrap"]).count(), 0);
    }
}
