//! The child and everything that descends from it.
//!
//! On Linux the launcher is a subreaper: whatever loses its parent becomes our own child, whichever
//! session it is in, so having no child left means that nobody is left. Elsewhere orphans go to
//! init: there we know the process group, whose number the unreaped child keeps for us, and those
//! descendants that were seen while their parents lived.

#[cfg(target_os = "linux")]
pub use linux::Family;
#[cfg(not(target_os = "linux"))]
pub use other::Family;

#[cfg(target_os = "linux")]
mod linux {
    use crate::sys::{self, Ended, Pid, Reaped};
    use crate::tree;

    pub struct Family {
        child: Pid,
        ended: Option<Ended>,
        alone: bool,
    }

    impl Family {
        /// To be called before the child is started.
        pub fn prepare() {
            // Kernels before 3.4 have no subreapers; the process tree is still swept while it hangs
            // together.
            let _ = nix::sys::prctl::set_child_subreaper(true);
        }

        pub fn new(child: Pid) -> Self {
            Family { child, ended: None, alone: false }
        }

        /// Reaps the children that have ended.
        pub fn check(&mut self) {
            loop {
                match sys::reap() {
                    Reaped::Child(pid, ended) if pid == self.child && self.ended.is_none() => {
                        self.ended = Some(ended);
                    }
                    Reaped::Child(..) => {}
                    Reaped::NoneYet => return,
                    Reaped::NoChildren => {
                        self.alone = true;
                        return;
                    }
                }
            }
        }

        /// How the child ended, once it has.
        pub fn ended(&self) -> Option<Ended> {
            self.ended
        }

        /// Whether neither the child nor a descendant is left.
        pub fn is_gone(&self) -> bool {
            self.alone
        }

        /// A signal to the child's process group; nothing once the child has ended.
        pub fn signal(&mut self, signal: u8) {
            if self.ended.is_none() {
                sys::kill_group(self.child, signal);
            }
        }

        /// A signal to every descendant, in whichever group.
        pub fn signal_all(&mut self, signal: u8) {
            for pid in tree::descendants(nix::unistd::getpid().as_raw()) {
                sys::kill(pid, signal);
            }
        }

        /// The last word on this family.
        pub fn finish(&mut self) {}
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use crate::sys::{self, Ended, Pid, Reaped};
    use crate::tree;

    pub struct Family {
        child: Pid,
        ended: Option<Ended>,
        reaped: bool,
        seen: Vec<Pid>,
    }

    impl Family {
        /// To be called before the child is started.
        pub fn prepare() {}

        pub fn new(child: Pid) -> Self {
            Family { child, ended: None, reaped: false, seen: Vec::new() }
        }

        /// Looks whether the child has ended, without reaping it: its number stays reserved for its
        /// group.
        pub fn check(&mut self) {
            if self.ended.is_none() {
                self.ended = sys::peek(self.child);
            }
        }

        /// How the child ended, once it has.
        pub fn ended(&self) -> Option<Ended> {
            self.ended
        }

        /// Whether neither the child nor a descendant that we know of is left.
        pub fn is_gone(&self) -> bool {
            self.ended.is_some()
                && (self.reaped || !sys::group_exists(self.child))
                && !self.seen.iter().any(|&pid| sys::exists(pid))
        }

        /// A signal to the child's process group; nothing once the child has ended.
        pub fn signal(&mut self, signal: u8) {
            if self.ended.is_none() {
                self.look();
                sys::kill_group(self.child, signal);
            }
        }

        /// A signal to every descendant that we know of.
        pub fn signal_all(&mut self, signal: u8) {
            self.look();
            if !self.reaped {
                sys::kill_group(self.child, signal);
            }
            for &pid in &self.seen {
                sys::kill(pid, signal);
            }
        }

        /// Reaps the child; its group cannot be signalled after this.
        pub fn finish(&mut self) {
            while let Reaped::Child(pid, ended) = sys::reap() {
                if pid == self.child {
                    self.ended.get_or_insert(ended);
                }
            }
            self.reaped = true;
        }

        fn look(&mut self) {
            self.seen.retain(|&pid| sys::exists(pid));
            for pid in tree::descendants(nix::unistd::getpid().as_raw()) {
                if pid != self.child && !self.seen.contains(&pid) {
                    self.seen.push(pid);
                }
            }
        }
    }
}
