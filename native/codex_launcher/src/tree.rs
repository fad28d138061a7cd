//! Finds the processes below one process.

use crate::sys::Pid;

/// All descendants of `root` that have not ended.
///
/// Between this listing and a signal a process can end and its number pass to another one, but only
/// after the kernel went once around its whole number space; direct children keep theirs until they
/// are reaped.
#[cfg(target_os = "linux")]
pub fn descendants(root: Pid) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let all: Vec<(Pid, Pid)> = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter_map(|pid: Pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, live_parent(&stat)?))
        })
        .collect();
    below(root, &all)
}

/// The parent's number in a line of `/proc/PID/stat`; `None` for processes that have ended. The
/// name before it may hold anything, brackets and spaces too, but its end is the last bracket of
/// the line.
#[cfg(target_os = "linux")]
fn live_parent(stat: &str) -> Option<Pid> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" | "x" => None,
        _ => fields.next()?.parse().ok(),
    }
}

/// Walks (process, parent) pairs down from `root`. A parent that ended during the listing hides its
/// children; they are ours in the next one.
#[cfg(any(target_os = "linux", test))]
fn below(root: Pid, all: &[(Pid, Pid)]) -> Vec<Pid> {
    let mut children = std::collections::HashMap::<Pid, Vec<Pid>>::new();
    for &(pid, parent) in all {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        // Removed, so a cycle made of reused numbers cannot hold us.
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(child);
            next.push(child);
        }
    }
    found
}

/// All descendants of `root` as far as the parent links still lead to them: an orphan belongs to
/// launchd here.
#[cfg(target_os = "macos")]
pub fn descendants(root: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        for child in children(pid) {
            if !found.contains(&child) {
                found.push(child);
                next.push(child);
            }
        }
    }
    found
}

#[cfg(target_os = "macos")]
#[allow(unsafe_code)]
fn children(pid: Pid) -> Vec<Pid> {
    let mut pids = vec![0; 4096];
    let bytes = std::mem::size_of_val(pids.as_slice()) as nix::libc::c_int;
    // SAFETY: the buffer is as long as said.
    let n = unsafe { nix::libc::proc_listchildpids(pid, pids.as_mut_ptr().cast(), bytes) };
    pids.truncate(usize::try_from(n).unwrap_or(0));
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_hangs_below_the_root() {
        let all = [(2, 1), (10, 2), (11, 10), (12, 10), (13, 11), (20, 1), (21, 20)];
        let mut found = below(10, &all);
        found.sort_unstable();
        assert_eq!(found, [11, 12, 13]);
    }

    #[test]
    fn a_cycle_ends() {
        assert_eq!(below(1, &[(2, 1), (1, 2)]), [2, 1]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_may_hold_brackets() {
        assert_eq!(live_parent("7 (a) Z 1 (b)) S 42 7 7 0"), Some(42));
        assert_eq!(live_parent("7 (a) Z 42 7 7 0"), None);
        assert_eq!(live_parent("7 (a"), None);
        assert_eq!(live_parent(""), None);
    }
}
