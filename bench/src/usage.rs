//! The CPU time and memory of a process, from `/proc`.

use std::fs;

use anyhow::Context as _;

/// The unit of CPU time in `/proc`: ticks a second, on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds of the process `pid` so far, in all its threads.
///
/// # Errors
/// When there is no such process.
pub(crate) fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?;
    // The field before it is the process name in parentheses, which may contain any character.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (ticks.next().context("no user time")??, ticks.next().context("no system time")??);
    Ok((user + system) / TICKS_PER_SECOND)
}

/// CPU seconds of the processes named `program` so far; zero if they run on another machine.
///
/// # Errors
/// When `/proc` does not exist.
pub(crate) fn program_cpu_s(program: &str) -> anyhow::Result<f64> {
    let entries = fs::read_dir("/proc").context("no /proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_it = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == program);
    // A process that has just ended is left out.
    Ok(pids.filter(is_it).filter_map(|pid| cpu_s(pid).ok()).sum())
}

/// Resident memory of the process `pid`, in MiB.
///
/// # Errors
/// When there is no such process.
pub(crate) fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no resident memory")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// CPU seconds of all cores of the machine since it started.
///
/// # Errors
/// When `/proc` does not exist.
pub(crate) fn machine_cpu_s() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("no /proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, irq, softirq, ..] = ticks[..] else {
        anyhow::bail!("/proc/stat has another form");
    };
    Ok((user + nice + system + irq + softirq) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_uses_time_and_memory() {
        let pid = std::process::id();
        let (before_s, machine_before_s) = (cpu_s(pid).unwrap(), machine_cpu_s().unwrap());
        // The two counters are not updated at the same moment.
        while cpu_s(pid).unwrap() <= before_s || machine_cpu_s().unwrap() <= machine_before_s {}
        assert!(resident_mib(pid).unwrap() > 0.5);
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        assert!(program_cpu_s(name.trim()).unwrap() > before_s);
        assert_eq!(program_cpu_s("no such program").unwrap(), 0.0);
        cpu_s(u32::MAX).unwrap_err();
    }
}
