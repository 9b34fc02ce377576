//! The limit: XDP_TX reflection in the driver. This process only keeps the program attached.

use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags};

use crate::bpf;
use crate::error::{Context, Result};
use crate::interface::Interface;
use crate::signals;

/// Reflects UDP frames to `port` until SIGINT or SIGTERM.
///
/// # Errors
/// No permission, or an XDP program that is there already.
pub(crate) fn serve(interface: &str, port: u16) -> Result<()> {
    let index = Interface::index(interface)?;
    let object = bpf::load(bpf::REFLECT)?;
    bpf::map(&object, "port")?
        .update(&[0; 4], &u32::from(port).to_ne_bytes(), MapFlags::ANY)
        .context(|| "cannot tell the program its port".into())?;
    let program = bpf::program(&object, "reflect")?;
    let _link = bpf::attach_xdp(&program, index.cast_signed())?;
    println!("ready interface={interface} port={port}");
    while !signals::stopping() {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
