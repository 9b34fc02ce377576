//! The page of `report` in a real browser: Chromium without a screen, in a network namespace without any link, so that
//! what it shows needs no network. Needs root.

mod made_up;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use self::made_up::{Scratch, document, printed, text};

/// What each plot has to have: its name, and the labels of both axes, with their units.
const PLOTS: [(&str, &str, &str); 4] = [
    ("compare-udp-search-load-latency", "offered load, million frames/s", "latency, us"),
    ("compare-udp-search-load-goodput", "offered load, million frames/s", "goodput, million frames/s"),
    ("compare-udp-latency-percentiles", "percentile, %", "latency, us"),
    ("compare-udp-latency-course", "time, s", "throughput, thousand frames/s"),
];

/// Pixels of a plot in the screenshots, one below the other.
const WIDTH: usize = 1000;
const HEIGHT: usize = 500;
/// The part of it inside the axes.
const INSIDE: [std::ops::Range<usize>; 2] = [110..720, 70..380];

/// A browser that can reach nothing.
struct Browser {
    namespace: String,
    scratch: Scratch,
}

impl Browser {
    fn new(test: &str) -> Self {
        let namespace = format!("bw-bt{}-{test}", std::process::id());
        let status = Command::new("ip").args(["netns", "add", &namespace]).status().expect("`ip` has to be installed");
        assert!(status.success(), "this test needs root");
        Self { namespace, scratch: Scratch::new(test) }
    }

    /// What it prints when it is shown a file.
    fn run(&self, page: &Path, args: &[&str]) -> String {
        let profile = format!("--user-data-dir={}", text(&self.scratch.file("profile")));
        let output = Command::new("ip")
            .args(["netns", "exec", &self.namespace, "timeout", "-k", "5", "120", "chromium"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--hide-scrollbars", "--force-device-scale-factor=1", &profile])
            .args(args)
            .arg(format!("file://{}", text(page)))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "chromium failed (deploy/setup.sh test installs it): {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Requests that a page made, by the browser's log of its network. The browser's own have no origin.
    fn requests(&self, page: &Path) -> usize {
        let file = self.scratch.file("net.json");
        self.run(page, &["--dump-dom", &format!("--log-net-log={}", text(&file))]);
        let log = std::fs::read_to_string(&file).unwrap();
        assert!(log.contains("\"constants\""), "that is no log of the network");
        log.matches("\"initiator\":\"").count() - log.matches("\"initiator\":\"not an origin\"").count()
    }

    /// The page as pixels of a window of so many.
    fn screenshot(&self, page: &Path, height: usize, args: &[&str]) -> Picture {
        let file = self.scratch.file("screenshot.png");
        let size = format!("--window-size={WIDTH},{height}");
        self.run(page, &[&[&size[..], &format!("--screenshot={}", text(&file))], args].concat());
        let mut reader =
            png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&file).unwrap())).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!((info.width as usize, info.height as usize), (WIDTH, height));
        Picture { samples: info.color_type.samples(), bytes }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.namespace]).status();
    }
}

struct Picture {
    samples: usize,
    bytes: Vec<u8>,
}

impl Picture {
    /// Colours inside the axes of a plot.
    fn inside(&self, plot: usize) -> Vec<[u8; 3]> {
        let [columns, rows] = INSIDE;
        let at = |x: usize, y: usize| {
            let first = (y * WIDTH + x) * self.samples;
            [self.bytes[first], self.bytes[first + 1], self.bytes[first + 2]]
        };
        rows.flat_map(|y| columns.clone().map(move |x| at(x, plot * HEIGHT + y))).collect()
    }
}

/// Whether there are lines of all `colours`, with their soft edges.
fn shows_lines(pixels: &[[u8; 3]], colours: &[[u8; 3]]) -> bool {
    let count = |colour: &[u8; 3]| pixels.iter().filter(|pixel| *pixel == colour).count();
    pixels.iter().collect::<BTreeSet<_>>().len() >= 30 && colours.iter().all(|colour| count(colour) >= 50)
}

/// The page's colours of the three servers, in light or dark.
fn colours(page: &str, block: usize) -> Vec<[u8; 3]> {
    let of = |server: usize| {
        let mark = format!("--s{server}: #");
        let (at, _) = page.match_indices(&mark).nth(block).expect("a colour for each server");
        let hex = u32::from_str_radix(&page[at + mark.len()..][..6], 16).unwrap();
        let [_, red, green, blue] = hex.to_be_bytes();
        [red, green, blue]
    };
    (0..3).map(of).collect()
}

/// The page of the made-up result: its file and text.
fn page(scratch: &Scratch) -> (std::path::PathBuf, String) {
    let result = scratch.write("made-up.json", &document(1.0));
    let file = scratch.file("page.html");
    printed(&["report", text(&result), "--html", text(&file)]);
    let page = std::fs::read_to_string(&file).unwrap();
    (file, page)
}

/// The page with its plots alone, each at a known place, and `style` besides.
fn plots_alone(scratch: &Scratch, page: &str, style: &str) -> std::path::PathBuf {
    let alone = format!(
        "<style>header, footer, section > :not(figure), figcaption {{ display: none }} \
         body, section, figure {{ margin: 0; padding: 0; border: 0; max-width: none }} \
         figure {{ width: {WIDTH}px; height: {HEIGHT}px }} {style}</style></head>"
    );
    let file = scratch.file("alone.html");
    std::fs::write(&file, page.replace("</head>", &alone)).unwrap();
    file
}

#[test]
fn every_plot_has_labelled_axes_with_units_and_a_legend_in_the_loaded_page() {
    let browser = Browser::new("dom");
    let (file, _) = page(&browser.scratch);
    let dom = browser.run(&file, &["--dump-dom"]);
    for (id, x, y) in PLOTS {
        let (_, rest) = dom.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no plot {id}"));
        let plot = rest.split_once("</figure>").unwrap().0;
        let labels: Vec<&str> =
            plot.split("</text>").filter_map(|part| Some(part.rsplit_once('>')?.1.trim())).collect();
        for label in [x, y, "&lt;b&gt;slow&lt;/b&gt;", "quick", "steady"] {
            assert!(labels.contains(&label), "{id} has no {label}: {labels:?}");
        }
        let numbers = labels.iter().filter(|label| label.replace(',', "").parse::<f64>().is_ok()).count();
        assert!(numbers >= 8, "{id} has only {numbers} numbers on its axes: {labels:?}");
    }
    assert_eq!(dom.matches("<figure").count(), PLOTS.len());
    for told in
        ["Abacus", "6.18.0", "veth", "rx-checksumming", "0123456789ab", "string between two tins", "baseline", "copy"]
    {
        assert!(dom.contains(told), "the page does not tell {told}");
    }
    assert!(!dom.contains("<b>slow"), "a server's name became markup");
}

#[test]
fn the_page_asks_for_nothing() {
    let browser = Browser::new("net");
    let (file, page) = page(&browser.scratch);
    assert!(page.contains(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    ));
    for foreign in ["http:", "https:", "//", "src=", "href=", "url(", "@import", "<script", "<link", "<img", "<iframe"]
    {
        assert!(!page.contains(foreign), "the page has {foreign}");
    }
    assert_eq!(browser.requests(&file), 0);
    // What that is worth: a page that asks for a picture is seen to ask, and this page's policy keeps it from asking.
    let asking = page.replace("<body>", "<body><img src=\"http://192.0.2.1/x.png\">");
    let lax = asking.replace("default-src 'none';", "default-src *;");
    for (text, asks) in [(asking, false), (lax, true)] {
        let file = browser.scratch.file("asking.html");
        std::fs::write(&file, text).unwrap();
        assert_eq!(browser.requests(&file) > 0, asks);
    }
}

#[test]
fn the_plots_are_drawn_in_light_and_dark_and_a_page_without_them_would_show() {
    let browser = Browser::new("shot");
    let (_, page) = page(&browser.scratch);
    let height = HEIGHT * PLOTS.len();
    let alone = plots_alone(&browser.scratch, &page, "");
    for (block, args) in [(0, &[][..]), (1, &["--blink-settings=preferredColorScheme=0"])] {
        let colours = colours(&page, block);
        let picture = browser.screenshot(&alone, height, args);
        for (plot, (id, ..)) in PLOTS.iter().enumerate() {
            assert!(shows_lines(&picture.inside(plot), &colours), "{id} shows no lines of {colours:?}");
        }
    }
    // The same without lines and markers: grid, axes and labels alone do not count as a plot.
    let empty =
        plots_alone(&browser.scratch, &page, "svg [stroke^='var(--s'], svg [fill^='var(--s'] { display: none }");
    let picture = browser.screenshot(&empty, height, &[]);
    assert!((0..PLOTS.len()).all(|plot| !shows_lines(&picture.inside(plot), &colours(&page, 0))));
}
