//! Of the process, as the system tells it (`/proc`); all zero where there is no such thing.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// See the module.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    cpu_seconds: Counter<f64, AtomicU64>,
    open_files: Gauge,
    open_files_max: Gauge,
    used: Gauge,
    limit: Gauge,
}

impl ProcessMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let started = Gauge::<f64, AtomicU64>::default();
        started.set(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64()));
        registry.register("process_start_time_seconds", "When it started", started);
        let cpu_seconds = Counter::default();
        let help = "Seconds of processor time that it has had";
        registry.register("process_cpu_seconds", help, cpu_seconds.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            resident_bytes: gauge("process_resident_memory_bytes", "Bytes in memory"),
            virtual_bytes: gauge("process_virtual_memory_bytes", "Bytes of address space"),
            open_files: gauge("process_open_fds", "Open files"),
            open_files_max: gauge("process_max_fds", "Open files that there may be"),
            used: gauge("os_fd_used", "Open files"),
            limit: gauge("os_fd_limit", "Open files that there may be"),
            cpu_seconds,
        }
    }

    /// Asks the system.
    pub(super) fn look_up(&self) {
        let Some(now) = look_up() else { return };
        self.resident_bytes.set(now.resident_bytes);
        self.virtual_bytes.set(now.virtual_bytes);
        // The system counts them already.
        self.cpu_seconds.inner().store(now.cpu_seconds.to_bits(), Ordering::Relaxed);
        for gauge in [&self.open_files, &self.used] {
            gauge.set(now.open_files);
        }
        for gauge in [&self.open_files_max, &self.limit] {
            gauge.set(now.open_files_max);
        }
    }
}

struct Now {
    resident_bytes: i64,
    virtual_bytes: i64,
    cpu_seconds: f64,
    open_files: i64,
    open_files_max: i64,
}

/// `proc(5)`: fields of `stat` are counted after the program's name, which may hold anything but is
/// between the first and the last parenthesis.
fn look_up() -> Option<Now> {
    const UTIME: usize = 11;
    const VSIZE: usize = 20;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |place: usize| fields.get(place).and_then(|field| field.parse::<i64>().ok());
    // SAFETY: both take a number and answer one.
    let (ticks, page) =
        unsafe { (libc::sysconf(libc::_SC_CLK_TCK), libc::sysconf(libc::_SC_PAGESIZE)) };
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let open_files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    Some(Now {
        resident_bytes: number(VSIZE + 1)? * page,
        virtual_bytes: number(VSIZE)?,
        cpu_seconds: (number(UTIME)? + number(UTIME + 1)?) as f64 / ticks.max(1) as f64,
        open_files: i64::try_from(open_files).unwrap_or(i64::MAX),
        open_files_max: files
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(0),
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_this_process() {
        let now = look_up().unwrap();
        assert!(now.resident_bytes > 1 << 20 && now.virtual_bytes >= now.resident_bytes);
        assert!(now.open_files > 2 && now.open_files_max >= now.open_files);
    }
}
