//! A plot as PNG: its SVG, rendered with a font that this program brings along.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use super::plots::SIZE;
use crate::error::{Context, Error, Result};

/// Renders SVGs.
pub(super) struct Renderer {
    options: Options<'static>,
}

impl Renderer {
    pub(super) fn new() -> Self {
        let mut fonts = fontdb::Database::new();
        for font in [dejavu::sans::regular(), dejavu::sans::bold()] {
            fonts.load_font_data(font.to_vec());
        }
        fonts.set_sans_serif_family("DejaVu Sans");
        let options = Options { fontdb: Arc::new(fonts), font_family: "DejaVu Sans".into(), ..Options::default() };
        Self { options }
    }

    /// The bytes of a PNG.
    ///
    /// # Errors
    /// The SVG cannot be read, or the picture not be encoded.
    pub(super) fn png(&self, svg: &str) -> Result<Vec<u8>> {
        let tree = Tree::from_str(svg, &self.options).context(|| "cannot read a plot back".into())?;
        let mut picture = Pixmap::new(SIZE.0, SIZE.1).ok_or_else(|| Error::run("no memory for a picture"))?;
        resvg::render(&tree, Transform::identity(), &mut picture.as_mut());
        picture.encode_png().context(|| "cannot encode a picture".into())
    }
}
