//! Gives up the rights that a worker process does not need.
//!
//! What a worker decodes comes from strangers, and it holds stream keys. So it cannot be looked into by others of
//! the same user, leaves no core dump, starts no program, and reaches no files but libraries, fonts, certificates,
//! graphics devices and the folders that it is told. Each of these is taken where the kernel offers it: what an
//! older one lacks is told once, and no reason to fail.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::{
    fs::Mode,
    process::{DumpableBehavior, Resource, Rlimit, chdir, set_dumpable_behavior, setrlimit, umask},
    thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs},
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
use thiserror::Error;

/// What a process may reach besides what every worker needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reach {
    /// Files and folders to read.
    pub(crate) read: Vec<PathBuf>,
    /// Folders to read and write in.
    pub(crate) write: Vec<PathBuf>,
}

/// What a kernel does not offer.
#[derive(Debug, Error)]
pub(crate) enum Gap {
    #[error("{0}: {1}")]
    Refused(&'static str, rustix::io::Errno),
    #[error("files: {0}")]
    Files(#[from] RulesetError),
    #[error("files: the kernel has no Landlock, or it is switched off")]
    NoLandlock,
    #[error("system calls: {0}")]
    Calls(#[from] seccompiler::Error),
    #[error("system calls: {0}")]
    Filter(#[from] seccompiler::BackendError),
}

/// Keeps the memory of the server, where stream keys are, out of core dumps and away from other processes.
///
/// # Errors
/// As the system says.
pub fn hide_memory() -> std::io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, none)?)
}

/// Lets nobody but this user read what the process, and those that it starts, will write.
pub fn keep_files_private() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// Makes the process one that nobody can look into: to be called first, before it learns a secret, and while it
/// has one thread.
pub(crate) fn close_in() -> Vec<Gap> {
    close_inherited();
    keep_files_private();
    let mut gaps = Vec::new();
    let mut attempt = |what, result: rustix::io::Result<()>| {
        gaps.extend(result.err().map(|error| Gap::Refused(what, error)));
    };
    attempt(
        "dumpable",
        set_dumpable_behavior(DumpableBehavior::NotDumpable),
    );
    attempt("privileges", set_no_new_privs(true));
    attempt("folder", chdir("/"));
    // Not limited are memory that is only mapped, which graphics drivers reserve by the terabyte, and threads,
    // which the kernel counts for all processes of the user together.
    for (what, resource, limit) in [
        ("core dumps", Resource::Core, 0),
        ("descriptors", Resource::Nofile, DESCRIPTORS),
    ] {
        let limit = Some(limit);
        let result = setrlimit(
            resource,
            Rlimit {
                current: limit,
                maximum: limit,
            },
        );
        attempt(what, result);
    }
    gaps
}

/// Confines the calling thread, and those that it starts, for good: to be called before any of them is started.
pub(crate) fn confine(reach: &Reach) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let kept = if reach.write.iter().all(|folder| is_open_to_owner(folder)) {
        CapabilitySet::empty()
    } else {
        CapabilitySet::DAC_OVERRIDE
    };
    if let Err(error) = keep_capabilities(kept) {
        gaps.push(Gap::Refused("capabilities", error));
    }
    match confine_files(reach) {
        Ok(RulesetStatus::NotEnforced) => gaps.push(Gap::NoLandlock),
        Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced) => {}
        Err(error) => gaps.push(error.into()),
    }
    // Last, because it is what the others are done with.
    gaps.extend(confine_calls().err());
    gaps
}

fn keep_capabilities(kept: CapabilitySet) -> rustix::io::Result<()> {
    let had = rustix::thread::capabilities(None)?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: had.effective & kept,
            permitted: had.permitted & kept,
            inheritable: CapabilitySet::empty(),
        },
    )
}

/// Returns whether a folder can be written in without a capability. Without one even root is bound by the modes
/// of files, and a data folder may be another user's.
fn is_open_to_owner(folder: &Path) -> bool {
    let owner = rustix::process::geteuid().as_raw();
    let status = |path: &Path| fs::metadata(path).ok();
    let is_own = status(folder).is_some_and(|status| status.uid() == owner);
    let mut above = folder.ancestors().skip(1).filter_map(status);
    is_own && above.all(|status| status.uid() == owner || status.mode() & 0o001 != 0)
}

/// Closes what the server's own parent may have left open.
fn close_inherited() {
    let entries = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let numbers: Vec<i32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // The listing's own is among them, and is gone already.
        let _ = nix::unistd::close(number);
    }
}

fn confine_files(reach: &Reach) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let device = read | AccessFs::WriteFile | AccessFs::IoctlDev;
    let write = AccessFs::from_all(LATEST) & !(AccessFs::Execute | AccessFs::IoctlDev | SPECIAL);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LATEST))?
        // A worker calls others; nobody calls it.
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(LATEST))?
        .create()?;
    let given = variables().into_iter().chain(reach.read.iter().cloned());
    let readable = READ.iter().map(PathBuf::from).chain(given);
    let grants = readable
        .map(|path| (path, read))
        .chain(DEVICES.iter().map(|path| (PathBuf::from(path), device)))
        .chain(nvidia().into_iter().map(|path| (path, device)))
        .chain(reach.write.iter().map(|path| (path.clone(), write)));
    for (path, access) in grants {
        // What is not there needs no right.
        let Ok(opened) = PathFd::new(&path) else {
            continue;
        };
        rules = rules.add_rule(PathBeneath::new(opened, fitting(&path, access)))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// Of a file only the rights that files have.
fn fitting(path: &Path, access: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
    if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(LATEST)
    }
}

/// Where the environment says that libraries, plugins and certificates are.
fn variables() -> Vec<PathBuf> {
    let named = |(name, value): (OsString, OsString)| {
        let name = name.to_string_lossy();
        let paths = name.starts_with("GST_PLUGIN")
            || name.starts_with("GST_REGISTRY")
            || ["LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"].contains(&&*name);
        paths.then_some(value)
    };
    let values: Vec<_> = env::vars_os().filter_map(named).collect();
    let paths = values.iter().flat_map(env::split_paths);
    paths.filter(|path| path.is_absolute()).collect()
}

fn nvidia() -> Vec<PathBuf> {
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("nvidia"))
        .map(|entry| entry.path())
        .collect()
}

/// Refuses the system calls by which a process gets at others, or at the kernel's larger surfaces.
fn confine_calls() -> Result<(), Gap> {
    let refused: BTreeMap<i64, Vec<_>> = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        refused,
        SeccompAction::Allow,
        SeccompAction::Errno(NOT_PERMITTED),
        TargetArch::try_from(env::consts::ARCH)?,
    )?;
    let program = BpfProgram::try_from(filter)?;
    apply_filter(&program)?;
    Ok(())
}

/// The newest generation of Landlock that is asked for; older kernels give what they have.
const LATEST: ABI = ABI::V6;
/// Files that are none.
const SPECIAL: BitFlags<AccessFs> =
    landlock::make_bitflags!(AccessFs::{MakeChar | MakeBlock | MakeSock | MakeFifo});
/// Libraries with their plugins, fonts, certificates, how names are resolved, and what the machine is.
const READ: [&str; 24] = [
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/fonts",
    "/var/cache/fontconfig",
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/OpenCL",
    "/etc/vulkan",
    "/etc/glvnd",
    "/proc",
    "/sys",
];
const DEVICES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/dri",
];
/// A worker with 16 destinations has about 120.
const DESCRIPTORS: u64 = 1024;
const NOT_PERMITTED: u32 = nix::errno::Errno::EPERM as u32;
const CALLS: [i64; 31] = [
    // Nobody calls a worker. (Landlock says so only from Linux 6.7 on, and of TCP.)
    nix::libc::SYS_listen,
    nix::libc::SYS_accept,
    nix::libc::SYS_accept4,
    nix::libc::SYS_execve,
    nix::libc::SYS_execveat,
    nix::libc::SYS_ptrace,
    nix::libc::SYS_process_vm_readv,
    nix::libc::SYS_process_vm_writev,
    nix::libc::SYS_pidfd_getfd,
    nix::libc::SYS_kcmp,
    nix::libc::SYS_bpf,
    nix::libc::SYS_perf_event_open,
    nix::libc::SYS_userfaultfd,
    nix::libc::SYS_io_uring_setup,
    nix::libc::SYS_keyctl,
    nix::libc::SYS_add_key,
    nix::libc::SYS_request_key,
    nix::libc::SYS_mount,
    nix::libc::SYS_umount2,
    nix::libc::SYS_move_mount,
    nix::libc::SYS_fsopen,
    nix::libc::SYS_pivot_root,
    nix::libc::SYS_chroot,
    nix::libc::SYS_unshare,
    nix::libc::SYS_setns,
    nix::libc::SYS_init_module,
    nix::libc::SYS_finit_module,
    nix::libc::SYS_delete_module,
    nix::libc::SYS_kexec_load,
    nix::libc::SYS_reboot,
    nix::libc::SYS_open_by_handle_at,
];

#[cfg(test)]
mod tests {
    use std::{io, net::TcpListener, process::Command, thread};

    use super::*;

    /// Runs `body` in a confined thread: confinement is a thread's, and its children's.
    fn confined<T: Send + 'static>(
        reach: Reach,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> (Vec<String>, T) {
        let confined = thread::spawn(move || {
            set_no_new_privs(true).unwrap();
            let gaps = confine(&reach);
            (gaps.iter().map(ToString::to_string).collect(), body())
        });
        confined.join().unwrap()
    }

    #[test]
    fn only_what_was_named_can_be_reached() {
        let (mine, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = others.path().join("secret");
        fs::write(&file, "secret").unwrap();
        let read = others.path().join("readable");
        fs::write(&read, "readable").unwrap();
        let reach = Reach {
            read: vec![read.clone()],
            write: vec![mine.path().to_owned()],
        };
        let (own, others) = (mine.path().to_owned(), others.path().to_owned());
        let (gaps, ()) = confined(reach, move || {
            let denied = |result: io::Result<()>, what: &str| {
                let kind = result.map_err(|error| error.kind());
                assert_eq!(kind, Err(io::ErrorKind::PermissionDenied), "{what}");
            };
            denied(fs::read(&file).map(drop), "read a file of others");
            denied(fs::write(others.join("new"), ""), "write beside it");
            denied(fs::remove_file(&file), "remove it");
            denied(fs::read("/etc/passwd").map(drop), "read the list of users");
            denied(fs::read_dir("/root").map(drop), "list a home");
            denied(fs::write(&read, ""), "write what may be read");
            denied(
                Command::new("/bin/true").status().map(drop),
                "start a program",
            );
            denied(TcpListener::bind("127.0.0.1:0").map(drop), "listen");
            assert_eq!(fs::read(&read).unwrap(), b"readable");
            fs::create_dir(own.join("folder")).unwrap();
            fs::write(own.join("folder/a"), "x").unwrap();
            fs::rename(own.join("folder/a"), own.join("b")).unwrap();
            fs::remove_dir(own.join("folder")).unwrap();
            assert!(fs::read_dir("/usr/lib").is_ok());
            fs::write("/dev/null", "x").unwrap();
        });
        assert_eq!(gaps, [""; 0]);
    }

    #[test]
    fn a_process_that_must_not_call_much_cannot_be_called_on_older_kernels_either() {
        let listened = thread::spawn(|| {
            confine_calls().unwrap();
            TcpListener::bind("127.0.0.1:0").map(drop)
        });
        let error = listened.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_confined_process_can_resolve_and_connect() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (_, connected) = confined(Reach::default(), move || {
            std::net::TcpStream::connect(("localhost", port)).map(drop)
        });
        connected.unwrap();
    }

    #[test]
    fn a_confined_process_has_no_capabilities_and_cannot_get_any() {
        let (_, status) = confined(Reach::default(), || {
            fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim_start_matches(':').trim().to_owned()
        };
        assert_eq!(field("CapEff"), "0000000000000000");
        assert_eq!(field("CapPrm"), "0000000000000000");
        assert_eq!(field("NoNewPrivs"), "1");
        assert_eq!(field("Seccomp"), "2");
    }
}
