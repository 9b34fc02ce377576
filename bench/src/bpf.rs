//! The three things done with BPF programs: load an object, attach a program, run one over live frames.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use libbpf_rs::{AsRawLibbpf, Link, Map, MapCore, Object, ObjectBuilder, ProgramMut};

use crate::error::{Context, Error, Result};

/// Sender of live frames.
pub(crate) const GENERATE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/generate.bpf.o"));
/// Receivers at TC ingress and at XDP.
pub(crate) const RECEIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/receive.bpf.o"));
/// Several frames of each that a socket sends.
pub(crate) const MULTIPLY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/multiply.bpf.o"));
/// Reflection in the driver.
pub(crate) const REFLECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/reflect.bpf.o"));

/// Loads all programs of an object into the kernel.
///
/// # Errors
/// No permission, or a kernel that lacks what the programs use.
pub(crate) fn load(object: &[u8]) -> Result<Object> {
    load_sized(object, None)
}

/// The same with so many entries in a map.
///
/// # Errors
/// As [`load`], or there is no such map.
pub(crate) fn load_sized(object: &[u8], sized: Option<(&str, u32)>) -> Result<Object> {
    let mut open = ObjectBuilder::default().open_memory(object).context(|| "cannot read a BPF object".into())?;
    if let Some((name, entries)) = sized {
        let map = open.maps_mut().find(|map| map.name() == name);
        let mut map = map.ok_or_else(|| Error::run(format!("no BPF map {name}")))?;
        map.set_max_entries(entries).context(|| format!("cannot give the BPF map {name} {entries} entries"))?;
    }
    open.load().map_err(|error| {
        let next = match io::Error::last_os_error().raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => "run it as root",
            _ => "the load generator needs Linux 6.6 or newer with BPF",
        };
        Error::run(format!("the kernel did not take the load generator's BPF programs ({error}): {next}"))
    })
}

/// The map of that name.
pub(crate) fn map<'obj>(object: &'obj Object, name: &str) -> Result<Map<'obj>> {
    object.maps().find(|map| map.name() == name).ok_or_else(|| Error::run(format!("no BPF map {name}")))
}

/// The program of that name.
pub(crate) fn program<'obj>(object: &'obj Object, name: &str) -> Result<ProgramMut<'obj>> {
    object
        .progs_mut()
        .find(|program| program.name() == name)
        .ok_or_else(|| Error::run(format!("no BPF program {name}")))
}

/// Attaches at TC ingress or egress, as the program says, by a link that goes away with this process.
///
/// # Errors
/// Whatever the kernel says; EINVAL before Linux 6.6.
pub(crate) fn attach_tc(program: &ProgramMut<'_>, ifindex: i32) -> Result<Link> {
    // SAFETY: the program is loaded and lives as long as `program`; null options are the defaults.
    let link =
        unsafe { libbpf_sys::bpf_program__attach_tcx(program.as_libbpf_object().as_ptr(), ifindex, std::ptr::null()) };
    let error = io::Error::last_os_error();
    let link = NonNull::new(link).ok_or_else(|| {
        Error::run(format!("cannot attach a program at TC ({error}): it needs root and Linux 6.6 or newer"))
    })?;
    // SAFETY: a link just made by libbpf, which nobody else owns.
    Ok(unsafe { Link::from_ptr(link) })
}

/// Attaches in the driver by a link that goes away with this process.
///
/// # Errors
/// Whatever the kernel says, and what to do about an interface that has a program already.
pub(crate) fn attach_xdp(program: &ProgramMut<'_>, ifindex: i32) -> Result<Link> {
    program
        .attach_xdp(ifindex)
        .context(|| "cannot attach an XDP program (`ip -details link` shows whether there is one already)".into())
}

/// Runs an XDP program over live frames that begin as copies of `frame`, in batches of `batch`, as if they
/// had arrived on the interface, `repeat` times or until a signal interrupts it.
///
/// # Errors
/// Whatever the kernel says. A signal is no error.
pub(crate) fn run_live(program: BorrowedFd<'_>, frame: &[u8], ifindex: u32, batch: u32, repeat: i32) -> io::Result<()> {
    let context = libbpf_sys::xdp_md { data_end: frame.len() as u32, ingress_ifindex: ifindex, ..Default::default() };
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
        data_in: frame.as_ptr().cast(),
        data_size_in: frame.len() as u32,
        ctx_in: std::ptr::from_ref(&context).cast(),
        ctx_size_in: size_of_val(&context) as u32,
        repeat,
        flags: libbpf_sys::BPF_F_TEST_XDP_LIVE_FRAMES,
        batch_size: batch,
        ..Default::default()
    };
    // SAFETY: both pointers are to memory of the sizes given beside them, which outlives the call and is
    // only read; nothing is asked to be written back.
    let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) };
    match -result {
        0 | libc::EINTR => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// The descriptor of a loaded program.
pub(crate) fn descriptor<'prog>(program: &'prog ProgramMut<'_>) -> BorrowedFd<'prog> {
    program.as_fd()
}
