//! Memory, disk and processor time, as the system counts them. Linux only: it is read from `/proc`.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::{MissedTickBehavior, interval};

use crate::table::mebibytes;

/// What `st_blocks` counts in.
const BLOCK_BYTES: u64 = 512;
/// Cores kept busy by others from which on a phase is marked: it was not measured on a quiet machine.
const OTHERS_MAX: f64 = 0.2;
/// Where members have stopped working for this long, one look after the other, they are quiet.
const QUIET_LOOKS: u32 = 3;
const LOOK: Duration = Duration::from_secs(1);
/// Share of a processor that the timers of an idle member may take.
const QUIET_SHARE_MAX: f64 = 0.05;
/// How long members are waited for until they are quiet.
const QUIET_PATIENCE: Duration = Duration::from_secs(600);

/// Says what the figures that follow were measured on, and where the data is.
pub(crate) fn print_surroundings(data: &Path) -> Result<()> {
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|_| "unknown".to_owned());
    let memory = field("/proc/meminfo", "MemTotal")?;
    let kernel = read("/proc/sys/kernel/osrelease")?;
    println!("machine: {} cores ({processor}), {memory}, Linux {}", cores()?, kernel.trim());
    println!("the members and the load share these cores");
    println!("data: {} ({})", data.display(), file_system(data)?);
    if cfg!(debug_assertions) {
        println!("NOT OPTIMISED: these figures say nothing about the program");
    }
    Ok(())
}

fn cores() -> Result<usize> {
    Ok(std::thread::available_parallelism()?.get())
}

/// The type of the file system that holds a path: figures from one in memory say nothing of disks.
fn file_system(path: &Path) -> Result<String> {
    let path = path.canonicalize()?;
    let mounts = read("/proc/self/mounts")?;
    let holding = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (mount, kind) = (fields.next()?, fields.next()?);
        path.starts_with(mount).then_some((mount.len(), kind))
    });
    // Of mounts on the same place the last one counts.
    Ok(holding.max_by_key(|&(length, _)| length).map_or("unknown", |(_, kind)| kind).to_owned())
}

/// Resident memory of a process.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident_bytes: u64,
    /// The most that it ever was.
    pub(crate) peak_bytes: u64,
}

pub(crate) fn memory(process: u32) -> Result<Memory> {
    let status = format!("/proc/{process}/status");
    let bytes = |name: &str| -> Result<u64> {
        let text = field(&status, name)?;
        let kibibytes: u64 = text.trim_end_matches(" kB").parse().context("VmRSS")?;
        Ok(kibibytes * 1024)
    };
    Ok(Memory { resident_bytes: bytes("VmRSS")?, peak_bytes: bytes("VmHWM")? })
}

/// Bytes that a process has had read from the disk, not from the system's cache.
pub(crate) fn disk_read_bytes(process: u32) -> Result<u64> {
    field(&format!("/proc/{process}/io"), "read_bytes")?.parse().context("read_bytes")
}

/// What files really take of the disk: blocks, not lengths.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) log_bytes: u64,
    /// Everything that is not the log's.
    pub(crate) store_bytes: u64,
}

impl Disk {
    pub(crate) fn bytes(&self) -> u64 {
        self.log_bytes + self.store_bytes
    }
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [log, store] = [self.log_bytes, self.store_bytes].map(mebibytes);
        write!(f, "{} (log {log}, store {store})", mebibytes(self.bytes()))
    }
}

pub(crate) fn disk(directory: &Path) -> Result<Disk> {
    let mut disk = Disk::default();
    each_file(directory, &mut |path| {
        let bytes = std::fs::metadata(path)?.blocks() * BLOCK_BYTES;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("segment" | "spare") => disk.log_bytes += bytes,
            _ => disk.store_bytes += bytes,
        }
        Ok(())
    })?;
    Ok(disk)
}

/// Makes the system forget what it has cached of these files, so that a start reads the disk. What
/// it could not forget shows in how little the start has read.
pub(crate) fn forget_cached(directory: &Path) -> Result<()> {
    each_file(directory, &mut |path| {
        let file = File::open(path)?;
        // Pages that are not on the disk yet would stay.
        file.sync_all()?;
        // SAFETY: posix_fadvise has no memory effects, and the descriptor is open.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        Ok(())
    })
}

/// Calls back for each file below; one that goes away meanwhile is passed over.
fn each_file(directory: &Path, visit: &mut dyn FnMut(&Path) -> std::io::Result<()>) -> Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| directory.display().to_string())?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            each_file(&path, visit)?;
            continue;
        }
        match visit(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => result.with_context(|| path.display().to_string())?,
        }
    }
    Ok(())
}

/// How busy the machine was from one moment to another, and with whose work.
pub(crate) struct Busy {
    began: Instant,
    all: AllTicks,
    ours: u64,
}

#[derive(Clone, Copy)]
struct AllTicks {
    busy: u64,
    stolen: u64,
}

impl Busy {
    /// Begins to watch; `members` are the processes of those that run.
    pub(crate) fn watch(members: &[u32]) -> Result<Self> {
        Ok(Self { began: Instant::now(), all: all_ticks()?, ours: our_ticks(members)? })
    }

    /// Prints what the processors did since, and the system's load averages; `members` are those
    /// that run now. What is not ours may be the kernel's work for us.
    pub(crate) fn print(self, what: &str, members: &[u32]) -> Result<()> {
        let seconds = self.began.elapsed().as_secs_f64();
        let now = all_ticks()?;
        let share = |ticks: u64| ticks as f64 / ticks_a_second() / seconds;
        let ours = our_ticks(members)?.saturating_sub(self.ours);
        let others = share((now.busy - self.all.busy).saturating_sub(ours));
        println!(
            "  {what}: {seconds:.1} s; cores busy: {:.2} by members and load, {others:.2} by others, \
             {:.2} stolen; load average {}{}",
            share(ours),
            share(now.stolen - self.all.stolen),
            load_average()?,
            if others > OTHERS_MAX { "  <-- NOT A QUIET MACHINE" } else { "" }
        );
        Ok(())
    }
}

/// The first three fields: of the last 1, 5 and 15 minutes.
pub(crate) fn load_average() -> Result<String> {
    let text = read("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

fn all_ticks() -> Result<AllTicks> {
    let text = read("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let fields = numbers(line.split_whitespace().skip(1))?;
    ensure!(fields.len() >= 8, "/proc/stat: `{line}`");
    // user, nice, system, idle, waiting for IO, interrupts, soft interrupts, stolen.
    let busy = [0, 1, 2, 5, 6].iter().map(|&field| fields[field]).sum();
    Ok(AllTicks { busy, stolen: fields[7] })
}

/// Of this process, of the members that run, and of those that have ended.
fn our_ticks(members: &[u32]) -> Result<u64> {
    let mut ticks: u64 = process_ticks("self")?.iter().sum();
    for &process in members {
        ticks += member_ticks(process)?;
    }
    Ok(ticks)
}

fn member_ticks(process: u32) -> Result<u64> {
    Ok(process_ticks(&process.to_string())?.iter().take(2).sum())
}

/// In user mode, in the kernel, and the same of children that have ended.
fn process_ticks(process: &str) -> Result<Vec<u64>> {
    let text = read(&format!("/proc/{process}/stat"))?;
    // The second field, a name in parentheses, may hold anything; the third follows the last one.
    let after_name = text.rsplit(") ").next().unwrap_or_default();
    numbers(after_name.split_whitespace().skip(11).take(4))
}

fn ticks_a_second() -> f64 {
    // SAFETY: sysconf has no memory effects.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

/// Waits until no member works and no file below the directory changes; answers how long it took.
pub(crate) async fn until_quiet(members: &[u32], directory: &Path) -> Result<Duration> {
    let began = Instant::now();
    let ticks_max = (QUIET_SHARE_MAX * ticks_a_second() * LOOK.as_secs_f64()) as u64;
    let look = || -> Result<(Vec<u64>, Disk)> {
        let ticks = members.iter().map(|&process| member_ticks(process)).collect::<Result<_>>()?;
        Ok((ticks, disk(directory)?))
    };
    let mut pace = interval(LOOK);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace.tick().await;
    let (mut before, mut quiet) = (look()?, 0);
    while quiet < QUIET_LOOKS {
        ensure!(began.elapsed() < QUIET_PATIENCE, "not quiet after {QUIET_PATIENCE:?}");
        pace.tick().await;
        let now = look()?;
        let idle = now.0.iter().zip(&before.0).all(|(now, before)| now - before <= ticks_max);
        quiet = if idle && now.1 == before.1 { quiet + 1 } else { 0 };
        before = now;
    }
    Ok(began.elapsed().saturating_sub(LOOK * QUIET_LOOKS))
}

fn numbers<'a>(fields: impl Iterator<Item = &'a str>) -> Result<Vec<u64>> {
    fields.map(|field| field.parse().with_context(|| format!("`{field}` is no number"))).collect()
}

/// The value of the first line `name: value`.
fn field(path: &str, name: &str) -> Result<String> {
    let text = read(path)?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(key, _)| key.trim() == name);
    let (_, value) = values.next().with_context(|| format!("{path} has no `{name}`"))?;
    Ok(value.trim().to_owned())
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.to_owned())
}
