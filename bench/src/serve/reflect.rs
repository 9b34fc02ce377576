//! The limits: XDP_TX reflection in the driver, and XDP_DROP. This process only keeps the program attached.

use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags};

use crate::bpf;
use crate::error::{Context, Result};
use crate::interface::Interface;
use crate::signals;
use crate::udp::receiver::words;

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

/// Counts UDP frames and drops them until SIGINT or SIGTERM, then says how many there were.
///
/// # Errors
/// No permission, or an XDP program that is there already.
pub(crate) fn sink(interface: &str) -> Result<()> {
    let index = Interface::index(interface)?;
    let object = bpf::load(bpf::REFLECT)?;
    let program = bpf::program(&object, "sink")?;
    let _link = bpf::attach_xdp(&program, index.cast_signed())?;
    println!("ready interface={interface}");
    while !signals::stopping() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let per_cpu = bpf::map(&object, "dropped")?
        .lookup_percpu(&[0; 4], MapFlags::ANY)
        .context(|| "cannot read the sink's counter".into())?
        .unwrap_or_default();
    let dropped: u64 = per_cpu.iter().flat_map(|bytes| words(bytes)).sum();
    println!("dropped {dropped}");
    Ok(())
}
