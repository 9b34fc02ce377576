//! The page: one file that needs nothing else, and asks for nothing.
//!
//! Its own policy forbids every request and every script, so what a result says can do nothing in a browser.

use std::fmt::Write;

use super::plots::{self, Plot, SIZE};
use super::table::{self, Cell, Table};
use super::theme;
use crate::compare::bootstrap::Verdict;
use crate::compare::watch;
use crate::error::Result;
use crate::losses::Counters;
use crate::result::{Contender, Document, placement};

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
const STYLE: &str = include_str!("style.css");

/// A result, and what is drawn of it.
pub(super) struct Part<'a> {
    pub document: &'a Document,
    pub plots: &'a [Plot],
}

/// The page of several results.
///
/// # Errors
/// A plot that cannot be drawn.
pub(super) fn page(parts: &[Part<'_>]) -> Result<String> {
    let names: Vec<&str> = parts.iter().map(|part| part.document.workload.as_str()).collect();
    let title = escape(&format!("barewire-bench: {}", names.join(", ")));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{}{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n\
         <p class=\"lead\">Measured by barewire-bench. Every figure comes with its range and with where it was \
         measured.</p>\n</header>\n",
        colours()
    );
    for part in parts {
        section(&mut page, part)?;
    }
    page.push_str("<footer>The page is whole: it loads nothing, and can be kept or sent as it is.</footer>\n");
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

/// The colours of plots as variables, in light and dark.
fn colours() -> String {
    let list = |pick: fn(&theme::Colour) -> (u8, u8, u8)| {
        let each = theme::all().map(|colour| format!("--{}: {};", colour.name, theme::hex(pick(&colour))));
        each.collect::<Vec<_>>().join(" ")
    };
    format!(
        ":root {{ {} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {} }} }}\n",
        list(|colour| colour.light),
        list(|colour| colour.dark)
    )
}

fn section(page: &mut String, part: &Part<'_>) -> Result<()> {
    let Part { document, plots } = part;
    let _ = writeln!(page, "<section>\n<h2>{}</h2>", escape(&document.workload));
    warnings(page, document);
    figures(page, document);
    for plot in *plots {
        figure(page, plot)?;
    }
    servers(page, document);
    facts(page, document);
    page.push_str("</section>\n");
    Ok(())
}

/// What has to be known before any figure is read.
fn warnings(page: &mut String, document: &Document) {
    if document.interrupted {
        page.push_str("<p class=\"warning\">Interrupted: what is here is whole, but not all that was asked for.</p>\n");
    }
    if let Some(told) = placement::told(document) {
        let _ = writeln!(page, "<p class=\"warning\">{}</p>", escape(&told));
    }
    let rounds = || document.servers.iter().flat_map(|server| &server.rounds);
    let disturbed = rounds().filter(|round| watch::disturbed(round)).count();
    if disturbed > 0 {
        let _ = writeln!(
            page,
            "<p class=\"warning\">Not alone: in {disturbed} of {} measurements other programs had more than 2 % of a \
             core. Those figures are theirs too.</p>",
            rounds().count()
        );
    }
}

fn figures(page: &mut String, document: &Document) {
    let table = Table::of(document);
    page.push_str("<h3>Figures</h3>\n<div class=\"card wide\"><table>\n<thead><tr><th scope=\"col\">server</th>");
    for column in &table.columns {
        let _ = write!(page, "<th scope=\"col\">{}</th>", escape(&column.title()));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (index, row) in table.rows.iter().enumerate() {
        let colour = theme::SERIES[index % theme::SERIES.len()].name;
        let mut notes = Vec::new();
        notes.extend(row.baseline.then(|| "baseline".to_owned()));
        notes.extend((row.disturbed > 0).then(|| format!("&#8224; {} disturbed", row.disturbed)));
        let notes = if notes.is_empty() { String::new() } else { format!("<small>{}</small>", notes.join(", ")) };
        let name = escape(&row.server);
        let _ = write!(
            page,
            "<tr><th scope=\"row\"><span class=\"chip\" style=\"background:var(--{colour})\"></span>{name}{notes}</th>"
        );
        row.cells.iter().for_each(|one| cell(page, one));
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
    footnotes(page, document, &table);
}

fn cell(page: &mut String, cell: &Cell) {
    let _ = write!(page, "<td><b>{}</b>", cell.median());
    if let Some(range) = cell.range() {
        let _ = write!(page, "<small>{range}</small>");
    }
    if let Some(ratio) = &cell.ratio {
        let class = match ratio.verdict {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::NoDifference | Verdict::Unknown => "same",
        };
        let interval = ratio.interval.map(|(low, high)| format!(" [{}-{}]", table::figure(low), table::figure(high)));
        let same = if ratio.verdict == Verdict::NoDifference { "~ " } else { "" };
        let _ = write!(
            page,
            "<small class=\"{class}\">{same}&#215;{}{}</small>",
            table::figure(ratio.ratio),
            interval.unwrap_or_default()
        );
    }
    page.push_str("</td>");
}

fn footnotes(page: &mut String, document: &Document, table: &Table) {
    let rounds = document.servers.iter().map(|server| server.rounds.len()).max().unwrap_or(0);
    let mut notes = vec![match rounds {
        0 => "No round was whole.".into(),
        1 => "One round: a single figure says nothing of its spread.".into(),
        _ => format!("Medians of {rounds} rounds, and under them the range."),
    }];
    if let Some(baseline) = &table.baseline {
        notes.push(format!(
            "&#215;: ratio to {}, taken within each round, in brackets the 95 % bootstrap interval; coloured where the \
             difference is surely better or worse, ~ where it is within noise. Losses in percent are compared by what \
             was not lost.",
            escape(baseline)
        ));
    }
    if table.any_limited() {
        notes.push(
            "+: at least as good; in some round the load generator, not the server, was the limit. That round enters \
             no ratio."
                .into(),
        );
    }
    if table.disturbed() > 0 {
        notes.push(
            "&#8224;: rounds in which another program had more than 2 % of the generator's or server's core.".into(),
        );
    }
    notes.iter().for_each(|note| {
        let _ = writeln!(page, "<p class=\"notes\">{note}</p>");
    });
}

fn figure(page: &mut String, plot: &Plot) -> Result<()> {
    let (id, caption) = (escape(&plot.id), escape(&plot.caption));
    let label = escape(&format!("{}; {} against {}", plot.title, plot.y.label, plot.x.label));
    let drawn = inline(&plots::svg(plot)?, &label);
    let _ = writeln!(page, "<figure class=\"card\" id=\"{id}\">\n{drawn}<figcaption>{caption}</figcaption>\n</figure>");
    Ok(())
}

/// A drawn plot as it stands in the page: as wide as the page wants, in the colours that the reader prefers.
fn inline(svg: &str, label: &str) -> String {
    let content = svg.split_once('>').map_or("", |(_, content)| content);
    let (width, height) = SIZE;
    let mut text = format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">{content}");
    for colour in theme::all() {
        text = text.replace(&format!("\"{}\"", theme::hex(colour.light)), &format!("\"var(--{})\"", colour.name));
    }
    text
}

fn servers(page: &mut String, document: &Document) {
    page.push_str(
        "<h3>Servers</h3>\n<div class=\"card wide\"><table>\n<thead><tr><th scope=\"col\">server</th>\
         <th scope=\"col\">mode</th><th scope=\"col\" class=\"text\">what it is, and what it said when it was ready</th></tr></thead>\n\
         <tbody>\n",
    );
    for server in &document.servers {
        let ready = server.rounds.iter().find_map(|round| round.ready.as_deref());
        let mode = ready.and_then(|line| line.split_whitespace().find_map(|word| word.strip_prefix("mode=")));
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"text\">{}",
            escape(&server.name),
            escape(mode.unwrap_or("-")),
            escape(&server.description)
        );
        ready.inspect(|line| {
            let _ = write!(page, "<br><code>{}</code>", escape(line));
        });
        for (place, counters) in losses(server) {
            let list: Vec<String> = counters.iter().map(|(name, growth)| format!("{name} {growth}")).collect();
            let _ = write!(page, "<br>Lost, {}: <code>{}</code>", escape(place), escape(&list.join(", ")));
        }
        page.push_str("</td></tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

/// Counters that tell of losses, of all rounds.
fn losses(server: &Contender) -> std::collections::BTreeMap<&str, Counters> {
    let mut all = std::collections::BTreeMap::<&str, Counters>::new();
    for (place, counters) in server.rounds.iter().flat_map(|round| &round.losses) {
        let sums = all.entry(place).or_default();
        counters.iter().for_each(|(name, growth)| *sums.entry(name.clone()).or_default() += growth);
    }
    all
}

/// Where it was measured.
fn facts(page: &mut String, document: &Document) {
    let (machine, network) = (&document.machine, &document.network);
    page.push_str("<h3>Where it was measured</h3>\n<dl class=\"card\">\n");
    let mut fact = |name: &str, value: String| {
        let _ = writeln!(page, "<dt>{name}</dt><dd>{value}</dd>");
    };
    fact("machine", escape(&format!("{}, {} cores", machine.cpu, machine.cores)));
    if let Some(ns) = machine.cores_ns {
        fact("core to core", format!("{ns:.0} ns and back, at the nearest"));
    }
    fact("kernel", escape(&format!("Linux {}", machine.kernel)));
    fact("load before", format!("{:.2} programs on average", machine.load_average));
    fact("network", escape(&network.description));
    let mtu = network.mtu.map(|mtu| format!(", MTU {mtu}")).unwrap_or_default();
    fact("addresses", format!("{}{mtu}", network.family.name()));
    if let Some(nic) = &network.interface {
        fact("interface", escape(&format!("{}, driver {}", nic.name, nic.driver)));
        let list = if nic.offloads.is_empty() { "none".into() } else { escape(&nic.offloads.join(", ")) };
        fact("offloads on", list);
    }
    if let Some(target) = network.target {
        fact("target", escape(&target.to_string()));
    }
    fact("commit", format!("{}, version {}", escape(&machine.commit), escape(&machine.version)));
    fact("command", format!("<code>{}</code>", escape(&machine.command)));
    fact("schema", escape(&document.schema));
    page.push_str("</dl>\n");
}

/// Text as it stands in HTML, in an attribute too.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_html_reads_as_its_own_stays() {
        assert_eq!(
            escape("<script>alert('x' && \"y\")</script>"),
            "&lt;script&gt;alert(&#39;x&#39; &amp;&amp; &quot;y&quot;)&lt;/script&gt;"
        );
        assert_eq!(escape("plain, 64 B"), "plain, 64 B");
    }

    #[test]
    fn a_drawn_plot_takes_the_pages_colours_and_loses_its_name_space() {
        let hex = theme::hex(theme::INK.light);
        let text = inline(&format!("<svg width=\"1\" xmlns=\"x\">\n<text fill=\"{hex}\"/></svg>"), "l");
        assert!(text.contains("fill=\"var(--ink)\"") && !text.contains("xmlns"), "{text}");
    }
}
