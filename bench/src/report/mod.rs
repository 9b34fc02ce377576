//! `barewire-bench report`: results as a page, as pictures, as a table.
//!
//! ```text
//!  Document -> series -> plots (SVG) -> html, files, picture (PNG)
//!          \-> table  -> html, markdown
//! ```

mod axis;
mod html;
mod markdown;
mod picture;
mod plots;
mod series;
mod table;
mod theme;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use self::html::Part;
use self::picture::Renderer;
use self::plots::Plot;
use crate::error::{Context, Error, Result};
use crate::result::Document;

const EXAMPLES: &str = "Examples:
  One page of two results:
    barewire-bench report udp.json tcp.json --html results.html
  The plots by themselves, and the table for a README:
    barewire-bench report udp.json --svg plots --png plots
    barewire-bench report udp.json --markdown";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReportArgs {
    /// Results that `--json` wrote
    #[arg(value_name = "FILE.json", required = true)]
    results: Vec<PathBuf>,
    /// Write one page, readable without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write each plot as SVG into this directory
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Write each plot as PNG into this directory
    #[arg(long, value_name = "DIR")]
    png: Option<PathBuf>,
    /// Print the tables of figures in Markdown
    #[arg(long)]
    markdown: bool,
}

/// Runs the command.
///
/// # Errors
/// A result that cannot be read, or something that cannot be written.
pub(crate) fn run(args: &ReportArgs) -> Result<()> {
    if args.html.is_none() && args.svg.is_none() && args.png.is_none() && !args.markdown {
        return Err(Error::usage("nothing to write: say --html FILE, --svg DIR, --png DIR or --markdown"));
    }
    let documents = args.results.iter().map(|file| Document::read(file)).collect::<Result<Vec<_>>>()?;
    let plots = plots_of(&documents)?;
    if args.markdown {
        documents.iter().for_each(|document| print!("{}", markdown::of(document)));
    }
    if let Some(file) = &args.html {
        write(file, page(&documents, &plots)?.as_bytes())?;
    }
    let all = || plots.iter().flatten();
    if let Some(directory) = &args.svg {
        write_each(directory, "svg", all(), |svg| Ok(svg.as_bytes().to_vec()))?;
    }
    if let Some(directory) = &args.png {
        let renderer = Renderer::new();
        write_each(directory, "png", all(), |svg| renderer.png(svg))?;
    }
    Ok(())
}

/// Writes the page of one result.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_page(document: &Document, file: &Path) -> Result<()> {
    let documents = std::slice::from_ref(document);
    write(file, page(documents, &plots_of(documents)?)?.as_bytes())
}

fn plots_of(documents: &[Document]) -> Result<Vec<Vec<Plot>>> {
    let prefix = |index: usize, document: &Document| match documents.len() {
        1 => document.workload.clone(),
        _ => format!("{}-{}", index + 1, document.workload),
    };
    documents.iter().enumerate().map(|(index, document)| series::plots(document, &prefix(index, document))).collect()
}

fn page(documents: &[Document], plots: &[Vec<Plot>]) -> Result<String> {
    let parts = documents.iter().zip(plots).map(|(document, plots)| Part { document, plots });
    html::page(&parts.collect::<Vec<_>>())
}

/// Writes every plot into a file of its own.
fn write_each<'a>(
    directory: &Path,
    extension: &str,
    plots: impl Iterator<Item = &'a Plot>,
    bytes: impl Fn(&str) -> Result<Vec<u8>>,
) -> Result<()> {
    fs::create_dir_all(directory).context(|| format!("cannot make {}", directory.display()))?;
    for plot in plots {
        write(&directory.join(format!("{}.{extension}", plot.id)), &bytes(&plots::svg(plot)?)?)?;
    }
    Ok(())
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).context(|| format!("cannot write {}", file.display()))
}
