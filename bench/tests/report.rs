//! `report` and `diff` on a result that nobody measured, and the README's tables.

mod made_up;

use std::path::Path;

use serde_json::json;

use self::made_up::{Scratch, bench, document, printed, text};

#[test]
fn the_table_in_markdown_has_medians_ranges_marks_and_its_origin() {
    let scratch = Scratch::new("markdown");
    let file = scratch.write("made-up.json", &document(1.0));
    let expected = "\
| server | peak, Mpps | loss, % | p50, us |
|---|---|---|---|
| &lt;b>slow&lt;/b> | 0.51 (0.50-0.52) | 0 (0-0) | 7.84 (7.69-8.00) |
| quick | 1.02 (1.00-1.04) | 0 (0-0) | 3.92 (3.85-4.00) |
| steady | 0.71+ (0.70-0.73) | 0 (0-0) | 5.60 (5.49-5.71) |

Medians of 5 rounds, with the range.
`+`: at least as good; the generator was the limit.
In 1 of 15 measurements other programs had more than 2 % of a core.
Abacus, 2 cores, Linux 6.18.0; a string between two tins.
Commit 0123456789ab, `barewire-bench compare udp --json made-up.json`
";
    assert_eq!(printed(&["report", text(&file), "--markdown"]), expected);
}

#[test]
fn a_figure_that_was_measured_with_the_cores_apart_is_marked_and_enters_no_ratio() {
    let scratch = Scratch::new("cores");
    let mut moved = document(1.0);
    moved["machine"]["cores_ns"] = json!(50.0);
    let round = &mut moved["servers"][1]["rounds"][0];
    round["figures"]["peak"]["cores_apart"] = json!(true);
    round["trials"][0]["repeated"] = json!(2);
    round["trials"][0]["cores_wait_seconds"] = json!(29.6);
    let file = scratch.write("moved.json", &moved);
    let told = printed(&["report", text(&file), "--markdown"]);
    assert!(told.contains("| quick | 1.02# (1.00-1.04) |"), "{told}");
    for part in ["they were 50 ns apart", "that: 30 s", "apart meanwhile: 2.", "with the cores apart: 1;"] {
        assert!(told.contains(part), "no `{part}` in {told}");
    }
    let page = scratch.file("page.html");
    printed(&["report", text(&file), "--html", text(&page)]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("1.02#") && page.contains("they were 50 ns apart"), "{page}");
    let whole = scratch.write("whole.json", &document(1.0));
    let told = printed(&["diff", text(&whole), text(&file)]);
    let row = told.lines().find(|line| line.starts_with("quick") && line.contains(" peak ")).unwrap();
    assert!(row.contains('#') && row.ends_with("too few rounds"), "four rounds are left: {told}");
}

#[test]
fn every_plot_is_a_file_of_its_own_and_the_pictures_show_the_lines() {
    let scratch = Scratch::new("plots");
    let file = scratch.write("made-up.json", &document(1.0));
    let [svg, png] = ["svg", "png"].map(|name| scratch.file(name));
    printed(&["report", text(&file), "--svg", text(&svg), "--png", text(&png)]);
    for plot in ["search-load-latency", "search-load-goodput", "latency-percentiles", "latency-course"] {
        let drawn = std::fs::read_to_string(svg.join(format!("compare-udp-{plot}.svg"))).unwrap();
        assert!(drawn.starts_with("<svg ") && drawn.contains("xmlns") && drawn.contains("&lt;b&gt;slow"), "{plot}");
        let bytes = std::fs::File::open(png.join(format!("compare-udp-{plot}.png"))).unwrap();
        let mut reader = png::Decoder::new(std::io::BufReader::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height, info.color_type), (1720, 820, png::ColorType::Rgba), "{plot}");
        let of = |colour: [u8; 3]| pixels.chunks(4).filter(|pixel| pixel[..3] == colour).count();
        // A line, another one, and text.
        for colour in [[0x00, 0x72, 0xB2], [0xD5, 0x5E, 0x00], [0x57, 0x60, 0x6A]] {
            assert!(of(colour) > 500, "{plot}: {} pixels of {colour:?}", of(colour));
        }
    }
}

#[test]
fn differences_are_told_by_verdict_and_fail_only_when_asked() {
    let scratch = Scratch::new("diff");
    let [old, new] = [(1.0, "old.json"), (0.5, "new.json")].map(|(speed, name)| scratch.write(name, &document(speed)));
    let [old, new] = [text(&old), text(&new)];
    let told = printed(&["diff", old, new]);
    let row = |text: &str, server: &str, figure: &str| {
        let found = text.lines().find(|line| line.starts_with(server) && line.contains(&format!(" {figure} ")));
        found.unwrap_or_else(|| panic!("no {server} {figure} in {text}")).to_owned()
    };
    assert!(row(&told, "quick", "peak").ends_with("worse") && row(&told, "quick", "p50").ends_with("worse"), "{told}");
    assert!(row(&told, "quick", "loss").ends_with("no difference"), "{told}");
    assert!(row(&told, "<b>slow</b>", "peak").ends_with("no difference"), "{told}");
    assert!(row(&told, "steady", "peak").ends_with("not comparable"), "the generator was the limit: {told}");
    assert!(!told.contains("NOT ALIKE"), "{told}");
    let back = printed(&["diff", new, old, "--fail-on-worse", "5"]);
    assert!(row(&back, "quick", "peak").ends_with("better"), "{back}");
    let failed = bench(&["diff", old, new, "--fail-on-worse", "5"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("quick peak"));
    assert!(bench(&["diff", old, new, "--fail-on-worse", "60"]).status.code() == Some(1), "p50 doubled");
    assert!(bench(&["diff", old, new, "--fail-on-worse", "150"]).status.success());
}

#[test]
fn another_machine_or_kernel_is_said_before_anything_else() {
    let scratch = Scratch::new("alike");
    let old = scratch.write("old.json", &document(1.0));
    let mut other = document(1.0);
    other["machine"]["kernel"] = json!("5.15.0");
    other["network"]["mtu"] = json!(9000);
    let new = scratch.write("new.json", &other);
    let told = printed(&["diff", text(&old), text(&new)]);
    assert!(told.starts_with("NOT ALIKE: kernel: 6.18.0 before, 5.15.0 after\nNOT ALIKE: MTU"), "{told}");
}

#[test]
fn what_cannot_be_reported_says_why_and_exits_with_its_code() {
    let scratch = Scratch::new("bad");
    let file = scratch.write("made-up.json", &document(1.0));
    let old = scratch.write("old.json", &json!({"schema": "barewire-bench/1"}));
    let mut torn = document(1.0);
    torn["servers"][0]["rounds"][0]["trials"][10]["latency"]["histogram"] = json!("HISTFAAA");
    let torn = scratch.write("torn.json", &torn);
    let [nowhere, svg] = ["no/such/directory/page.html", "svg"].map(|name| scratch.file(name));
    let cases: [(&[&str], i32, &str); 6] = [
        (&["report", text(&file)], 2, "--html"),
        (&["report", "--markdown"], 2, "FILE.json"),
        (&["report", text(&old), "--markdown"], 2, "barewire-bench/2"),
        (&["report", text(&file), "--html", text(&nowhere)], 1, "cannot write"),
        (&["report", text(&torn), "--svg", text(&svg)], 1, "histogram"),
        (&["diff", text(&file), text(&file), "--fail-on-worse=-1"], 2, "percent"),
    ];
    for (args, code, hint) in cases {
        let output = bench(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && error.contains(hint), "{args:?}: {error}");
    }
}

const BEGIN: &str = "<!-- table of ";
const END: &str = "<!-- end of table -->";

/// The marked tables of a document: the file that each is made of, and what stands between the marks.
fn tables(document: &str) -> Vec<(&str, &str)> {
    let parts = document.split(BEGIN).skip(1).map(|part| {
        let (file, rest) = part.split_once(" -->\n").expect("a mark ends with -->");
        (file, rest.split_once(END).expect("a table has an end mark").0)
    });
    parts.collect()
}

#[test]
fn every_marked_table_of_the_readme_is_the_one_that_its_result_makes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    for (file, table) in tables(&readme) {
        let made = printed(&["report", text(&root.join(file)), "--markdown"]);
        assert_eq!(table.trim(), made.trim(), "`barewire-bench report {file} --markdown` prints this table");
    }
}

#[test]
fn marked_tables_are_found_with_their_files() {
    let found = tables(
        "a\n<!-- table of x/y.json -->\n| t |\n<!-- end of table -->\nb\n<!-- table of z -->\n<!-- end of table -->",
    );
    assert_eq!(found, [("x/y.json", "| t |\n"), ("z", "")]);
}
