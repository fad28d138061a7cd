//! One child from START to EXIT: a single thread around poll(2).
//!
//! Everything that is held is bounded: stdout by the owner's credit and by [`OUT_HIGH`], stdin by
//! the credit we gave, stderr by its tail. A descriptor that we would not read now is not polled at
//! all: poll reports a hang-up whether asked or not, and would spin.

use crate::child::{self, Child, Streams};
use crate::family::Family;
use crate::files::Files;
use crate::frame::{
    CHUNK, Command, Decoder, EOF, ERROR, EXIT, FRAMES_WINDOW, Malformed, Out, Rung, STARTED,
    STDERR, STDERR_WINDOW, STDIN_CREDIT, STDIN_WINDOW, STDOUT, Start, Step, parse,
};
use crate::keep;
use crate::pty;
use crate::signals::Signals;
use crate::sys::{self, Ended};
use crate::tail::Tail;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};
use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// No more is read from the child while this much waits for the VM.
const OUT_HIGH: usize = 128 * 1024;
/// Credit for stdin is given back in pieces of this size, so that short lines do not each wake the
/// owner.
const STDIN_GIVE: usize = STDIN_WINDOW / 4;
/// Time between two rounds of KILL, and how long they go on: a process in uninterruptible sleep, or
/// of another user, must not hold the owner for ever.
const KILL_ROUND: Duration = Duration::from_millis(10);
const KILL_FOR: Duration = Duration::from_secs(2);
/// How long output is still read after the exit of a child whose descendants are left alone.
const LEAVE_GRACE: Duration = Duration::from_millis(100);
const KILL: u8 = nix::libc::SIGKILL as u8;
const TERM: u8 = nix::libc::SIGTERM as u8;

/// The states of the stop ladder and the sweep.
enum Phase {
    /// The child runs and has not been asked to end.
    Running,
    /// The child is asked to end; the time is that of the next step.
    Ladder(Instant),
    /// Descendants got TERM; at that time they get KILL.
    Sweep(Instant),
    /// KILL goes out in rounds: the time of the next one, and of the last.
    Killing(Instant, Instant),
    /// Descendants are left alone; output is read until that time.
    Leaving(Instant),
    /// No process is left that may be signalled.
    Done,
}

/// The two ends of the port.
struct Port {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    decoder: Decoder,
    out: Out,
}

struct Session {
    port: Port,
    signals: Signals,
    family: Family,
    phase: Phase,
    ladder: VecDeque<Rung>,
    leave_descendants: bool,
    sweep_grace: Duration,
    /// Our end of the terminal, which stdin and stdout are copies of. The child may close its end
    /// before it exits, and would get SIGHUP if ours were closed then.
    terminal: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdin_queue: VecDeque<u8>,
    stdin_ends: bool,
    /// Bytes the owner may still send, and bytes to give back to it.
    stdin_credit: usize,
    stdin_taken: usize,
    stdout: Option<OwnedFd>,
    stdout_credit: u64,
    stdout_hung_up: bool,
    /// The amount of stdout that was there when no writer was left.
    stdout_left: Option<usize>,
    /// Stdout is read and thrown away.
    discard: bool,
    stderr: Option<OwnedFd>,
    stderr_tail: Tail,
    stderr_credit: u64,
    /// Frames of bytes that the owner has not taken out of its mailbox.
    unseen: u32,
    /// The EOF frames of stdout and stderr were made.
    eof_told: [bool; 2],
    /// No frame follows: EXIT or ERROR was made.
    closed: bool,
    /// Nothing the owner says counts any more: ERROR was made.
    deaf: bool,
    bye: bool,
    /// The files go before EXIT is sent, and in any case with the session.
    files: Files,
    scratch: Box<[u8]>,
}

/// The request of the first frame.
enum First {
    Start(Start),
    Keep(Vec<CString>),
}

/// Serves the request of the first frame. Returns when everything is over.
pub fn run(input: OwnedFd, output: OwnedFd, signals: Signals) {
    let mut port = Port {
        input: Some(input),
        output: Some(output),
        decoder: Decoder::default(),
        out: Out::default(),
    };
    let mut signals = signals;
    // Ready before START, like all that does not depend on it: an idle launcher has the time.
    let pipes = Streams::pipes();
    Family::prepare();
    let start = match port.await_start(&mut signals) {
        Ok(Some(First::Start(start))) => start,
        Ok(Some(First::Keep(paths))) => {
            if let Some(input) = &port.input {
                keep::run(input, &mut port.decoder, paths);
            }
            return;
        }
        Ok(None) => return,
        Err(Malformed(text)) => return port.last_words("protocol", text),
    };
    let files = match Files::create(&start.files) {
        Ok(files) => files,
        Err(text) => return port.last_words("unwritable", &text),
    };
    let child = match pipes.and_then(|pipes| child::spawn(&start, pipes)) {
        Ok(child) => child,
        Err(e) => {
            drop(files);
            return port.last_words(e.code, &e.text);
        }
    };
    // At once: the owner waits for it.
    port.out.frame(STARTED, &[&(child.pid as u32).to_be_bytes()]);
    port.flush();
    // The launcher need not keep a directory busy.
    let _ = nix::unistd::chdir("/");
    let input_ends = start.input_ends;
    let mut session = Session::new(port, signals, child, start, files);
    if input_ends {
        session.end_stdin();
    }
    if session.port.nonblocking().is_err() {
        session.owner_left();
    }
    session.run();
}

impl Port {
    /// Waits for START or KEEP; `None` if the owner leaves instead, or a signal ends the launcher.
    fn await_start(&mut self, signals: &mut Signals) -> Result<Option<First>, Malformed> {
        let mut buf = [0; 65_536];
        loop {
            if let Some(frame) = self.decoder.next()? {
                return match parse(frame)? {
                    Command::Start(start) => Ok(Some(First::Start(start))),
                    Command::Keep(paths) => Ok(Some(First::Keep(paths))),
                    _ => Err(Malformed("the first frame is not START")),
                };
            }
            let Some(input) = &self.input else {
                return Ok(None);
            };
            let (news, told) = (PollFlags::POLLIN, signals.as_fd());
            let mut fds = [PollFd::new(told, news), PollFd::new(input.as_fd(), news)];
            let _ = poll(&mut fds, PollTimeout::NONE);
            let heard = fds[1].any() == Some(true);
            if signals.drain() && signals.ending() {
                return Ok(None);
            }
            if !heard {
                continue;
            }
            match read(input, &mut buf) {
                Ok(0) => return Ok(None),
                Ok(n) => self.decoder.push(&buf[..n]),
                Err(Errno::EINTR) => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// Sends ERROR before there is a child, and waits until the owner has closed the port.
    fn last_words(&mut self, code: &str, text: &str) {
        self.error(code, text);
        let mut buf = [0; 4096];
        loop {
            self.flush();
            match &self.input {
                Some(input) if self.output.is_some() => match read(input, &mut buf) {
                    Ok(1..) | Err(Errno::EINTR) => {}
                    Ok(0) | Err(_) => return,
                },
                _ => return,
            }
        }
    }

    fn error(&mut self, code: &str, text: &str) {
        let len = [code.len() as u8];
        self.out.frame(ERROR, &[&len, code.as_bytes(), text.as_bytes()]);
    }

    fn nonblocking(&self) -> nix::Result<()> {
        for fd in [&self.input, &self.output].into_iter().flatten() {
            sys::nonblocking(fd)?;
        }
        Ok(())
    }

    /// Writes as much as the VM takes now.
    fn flush(&mut self) {
        while let Some(output) = &self.output
            && self.out.len() > 0
        {
            match write(output, self.out.pending()) {
                Ok(n) => self.out.consume(n),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => {
                    self.output = None;
                    self.out.clear();
                }
            }
        }
    }
}

impl Session {
    fn new(port: Port, signals: Signals, child: Child, start: Start, files: Files) -> Self {
        let stdin_credit = STDIN_WINDOW.saturating_sub(start.input.len());
        Session {
            port,
            signals,
            family: Family::new(child.pid),
            phase: Phase::Running,
            ladder: start.ladder.into(),
            leave_descendants: start.leave_descendants,
            sweep_grace: Duration::from_millis(start.sweep_grace.into()),
            terminal: child.terminal,
            stdin: Some(child.stdin),
            stdin_queue: start.input.into(),
            stdin_ends: false,
            stdin_credit,
            stdin_taken: 0,
            stdout: Some(child.stdout),
            stdout_credit: start.credit,
            stdout_hung_up: false,
            stdout_left: None,
            discard: false,
            stderr: child.stderr,
            stderr_tail: Tail::new(start.stderr_limit),
            stderr_credit: STDERR_WINDOW,
            unseen: 0,
            eof_told: [false; 2],
            closed: false,
            deaf: false,
            bye: false,
            files,
            scratch: vec![0; 65_536].into_boxed_slice(),
        }
    }

    fn run(mut self) {
        loop {
            self.commands();
            if self.signals.drain() || !matches!(self.phase, Phase::Running) {
                self.family.check();
            }
            self.advance(Instant::now());
            self.read_stderr();
            self.read_stdout();
            self.write_stdin();
            self.emit();
            self.port.flush();
            if self.is_over() {
                return;
            }
            self.wait();
        }
    }

    /// Over when nobody is left and the owner has closed the port or said BYE. Leaving earlier
    /// would break the pipe under an owner that is about to write, and the VM answers that with an
    /// exit signal.
    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Done)
            && (self.bye || self.port.input.is_none() || self.port.output.is_none())
    }

    /// Sleeps until there is something to do.
    fn wait(&mut self) {
        let (want_in, want_out) = (PollFlags::POLLIN, PollFlags::POLLOUT);
        let mut fds = vec![PollFd::new(self.signals.as_fd(), want_in)];
        if let Some(input) = &self.port.input {
            fds.push(PollFd::new(input.as_fd(), want_in));
        }
        if let Some(output) = &self.port.output
            && self.port.out.len() > 0
        {
            fds.push(PollFd::new(output.as_fd(), want_out));
        }
        if let Some(stdin) = &self.stdin
            && !self.stdin_queue.is_empty()
        {
            fds.push(PollFd::new(stdin.as_fd(), want_out));
        }
        if let Some(stderr) = &self.stderr {
            fds.push(PollFd::new(stderr.as_fd(), want_in));
        }
        // Last, so that its hang-up can be found.
        let mut only_hang_up = false;
        if let Some(stdout) = &self.stdout {
            if self.stdout_wanted() > 0 {
                fds.push(PollFd::new(stdout.as_fd(), want_in));
            } else if self.stdout_credit == 0 && !self.stdout_hung_up {
                only_hang_up = true;
                fds.push(PollFd::new(stdout.as_fd(), PollFlags::empty()));
            }
        }
        // An error (EINTR at most) is a round without news.
        let _ = poll(&mut fds, self.timeout());
        if only_hang_up {
            self.stdout_hung_up = fds.last().and_then(PollFd::any) == Some(true);
        }
    }

    fn timeout(&self) -> PollTimeout {
        let at = match self.phase {
            Phase::Running | Phase::Done => return PollTimeout::NONE,
            Phase::Ladder(at) | Phase::Leaving(at) | Phase::Killing(at, _) => at,
            // If orphans are not ours, their end gives no signal.
            Phase::Sweep(at) if cfg!(target_os = "linux") => at,
            Phase::Sweep(at) => at.min(Instant::now() + KILL_ROUND),
        };
        // Rounded up: a wait that ends too early would only be repeated.
        let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    }

    // --- Frames of the owner ----------

    fn commands(&mut self) {
        while let Some(input) = &self.port.input {
            match read(input, &mut self.scratch) {
                Ok(0) => return self.owner_left(),
                Ok(_) if self.deaf => {}
                Ok(n) => {
                    self.port.decoder.push(&self.scratch[..n]);
                    if let Err(Malformed(text)) = self.obey() {
                        self.fail("protocol", text);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => return self.owner_left(),
            }
        }
    }

    fn obey(&mut self) -> Result<(), Malformed> {
        while let Some(frame) = self.port.decoder.next()? {
            match parse(frame)? {
                Command::Stdin(bytes) => {
                    self.stdin_credit = self
                        .stdin_credit
                        .checked_sub(bytes.len())
                        .ok_or(Malformed("stdin beyond its credit"))?;
                    if self.stdin.is_some() {
                        self.stdin_queue.extend(bytes);
                    } else {
                        self.stdin_taken += bytes.len();
                    }
                }
                Command::StdinEof => self.end_stdin(),
                Command::StdoutCredit(n) => {
                    self.stdout_credit = self.stdout_credit.saturating_add(n);
                }
                Command::StderrCredit(n) => {
                    self.stderr_credit = self.stderr_credit.saturating_add(n).min(STDERR_WINDOW);
                }
                Command::Signal(n) => self.family.signal(n),
                Command::Stop => self.stop(),
                Command::Bye => self.bye = true,
                Command::Window(size) => {
                    if let Some(terminal) = &self.terminal {
                        pty::resize(terminal, size);
                    }
                }
                Command::Seen(n) => self.unseen = self.unseen.saturating_sub(n),
                Command::Start(_) | Command::Keep(_) => return Err(Malformed("a second START")),
            }
        }
        Ok(())
    }

    fn owner_left(&mut self) {
        self.port.input = None;
        self.port.output = None;
        self.port.out.clear();
        self.stop();
    }

    /// The conversation cannot go on: says so, ends the child, waits for nothing but the end of the
    /// port.
    fn fail(&mut self, code: &str, text: &str) {
        if !self.closed {
            self.port.error(code, text);
            self.closed = true;
        }
        self.deaf = true;
        self.stop();
    }

    fn stop(&mut self) {
        self.discard = true;
        if matches!(self.phase, Phase::Running) {
            self.step(Instant::now());
        }
    }

    // --- The ladder and the sweep
    // --------------------

    /// Moves on as far as the child's state and the time allow.
    fn advance(&mut self, now: Instant) {
        if self.signals.ending() && !self.closed {
            self.fail("terminated", "the launcher was told to end");
        }
        if matches!(self.phase, Phase::Running | Phase::Ladder(_)) && self.family.ended().is_some()
        {
            self.close_stdin();
            if self.leave_descendants {
                self.phase = Phase::Leaving(now + LEAVE_GRACE);
            } else if !self.family.is_gone() {
                self.sweep(now);
            }
        }
        match self.phase {
            Phase::Leaving(until) if now >= until || self.discard || self.outputs_ended() => {
                self.done();
            }
            Phase::Done | Phase::Leaving(_) => {}
            _ if self.family.is_gone() => self.done(),
            Phase::Killing(..) if self.leave_descendants && self.family.ended().is_some() => {
                self.done();
            }
            Phase::Ladder(at) if now >= at => self.step(now),
            Phase::Sweep(at) if now >= at => self.kill(now, now + KILL_FOR),
            Phase::Killing(_, last) if now >= last => self.done(),
            Phase::Killing(at, last) if now >= at => self.kill(now, last),
            _ => {}
        }
    }

    /// The next step of the ladder; below the last one there is KILL for the child and TERM for the
    /// others.
    fn step(&mut self, now: Instant) {
        let Some(rung) = self.ladder.pop_front() else {
            self.family.signal(KILL);
            if self.leave_descendants {
                self.phase = Phase::Killing(now + KILL_ROUND, now + KILL_FOR);
            } else {
                self.sweep(now);
            }
            return;
        };
        match rung.step {
            Step::CloseStdin => {
                self.close_stdin();
                // Without our end a terminal hangs up: its session gets SIGHUP.
                if self.terminal.take().is_some() {
                    self.stdout = None;
                }
            }
            Step::Signal(n) => self.family.signal(n),
        }
        self.phase = Phase::Ladder(now + Duration::from_millis(rung.grace.into()));
    }

    fn sweep(&mut self, now: Instant) {
        self.family.signal_all(TERM);
        self.phase = Phase::Sweep(now + self.sweep_grace);
    }

    fn kill(&mut self, now: Instant, last: Instant) {
        if self.leave_descendants {
            self.family.signal(KILL);
        } else {
            self.family.signal_all(KILL);
        }
        self.phase = Phase::Killing(now + KILL_ROUND, last);
    }

    fn done(&mut self) {
        // Any other writer is none of ours: the bytes in the pipe are the end of the output. Those
        // of a terminal may still be on their way into its buffer, which only a read waits for.
        if self.terminal.is_none() {
            self.stdout_left = self.stdout.as_ref().map(sys::waiting);
        }
        self.family.finish();
        self.close_stdin();
        self.phase = Phase::Done;
    }

    // --- Bytes
    // --------------------

    /// Ends stdin after the bytes that are queued. For a terminal that is a character, Ctrl-D.
    fn end_stdin(&mut self) {
        if self.terminal.is_some() && !self.stdin_ends {
            self.stdin_queue.push_back(pty::END);
        }
        self.stdin_ends = true;
    }

    fn close_stdin(&mut self) {
        self.stdin = None;
        self.stdin_taken += self.stdin_queue.len();
        self.stdin_queue = VecDeque::new();
    }

    fn write_stdin(&mut self) {
        while let Some(stdin) = &self.stdin
            && !self.stdin_queue.is_empty()
        {
            match write(stdin, self.stdin_queue.as_slices().0) {
                Ok(n) => {
                    self.stdin_queue.drain(..n);
                    self.stdin_taken += n;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // The child reads no more; that is its good right.
                Err(_) => self.close_stdin(),
            }
        }
        if self.stdin_ends && self.stdin_queue.is_empty() {
            self.stdin = None;
        }
    }

    /// How much of stdout may be read now.
    fn stdout_wanted(&self) -> usize {
        if self.discard {
            return CHUNK;
        }
        if self.port.out.len() >= OUT_HIGH || self.unseen >= FRAMES_WINDOW {
            return 0;
        }
        let credit = usize::try_from(self.stdout_credit).unwrap_or(usize::MAX);
        CHUNK.min(credit).min(self.stdout_left.unwrap_or(CHUNK))
    }

    fn read_stdout(&mut self) {
        let Some(stdout) = &self.stdout else {
            return;
        };
        let quiet = matches!(self.phase, Phase::Done);
        if self.stdout_left == Some(0) || (self.discard && quiet) {
            self.stdout = None;
            return;
        }
        let wanted = self.stdout_wanted();
        if wanted == 0 {
            // An empty pipe without writers needs no credit to be seen, nor does a terminal whose
            // family is gone.
            let ended = self.stdout_hung_up || (self.terminal.is_some() && quiet);
            if ended && sys::waiting(stdout) == 0 {
                self.stdout = None;
            }
            return;
        }
        match read(stdout, self.port.out.space(wanted)) {
            Ok(0) => self.stdout = None,
            Ok(_) if self.discard => {}
            Ok(n) => {
                self.port.out.commit(STDOUT, n);
                self.stdout_credit -= n as u64;
                self.unseen += 1;
                self.stdout_left = self.stdout_left.map(|left| left - n);
                // Nothing would wake us for the end of a stream that we do not read any more.
                if self.stdout_left == Some(0) {
                    self.stdout = None;
                }
            }
            // Without a writer, empty is the end.
            Err(Errno::EAGAIN) if quiet => self.stdout = None,
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.stdout = None,
        }
    }

    fn read_stderr(&mut self) {
        let quiet = matches!(self.phase, Phase::Done);
        // Bytes that can be sent on at once do not count against the tail.
        let free = self.stderr_free();
        // A few pipefuls at most, when all that is left is to be had at once: a process that we may
        // not kill could go on for ever.
        for _ in 0..if quiet { 32 } else { 1 } {
            let Some(stderr) = &self.stderr else {
                return;
            };
            match read(stderr, &mut self.scratch) {
                Ok(0) => self.stderr = None,
                Ok(n) => self.stderr_tail.push(&self.scratch[..n], free),
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Err(_) => self.stderr = None,
            }
        }
        if quiet {
            self.stderr = None;
        }
    }

    /// How much of stderr may be sent now.
    fn stderr_free(&self) -> usize {
        if self.unseen >= FRAMES_WINDOW {
            return 0;
        }
        usize::try_from(self.stderr_credit).unwrap_or(usize::MAX)
    }

    fn outputs_ended(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Frames other than STDOUT, which is made by its reader. They need no check of
    /// [`OUT_HIGH`]: credit bounds stderr, and an owner that gets no STDIN_CREDIT cannot cause
    /// another one.
    fn emit(&mut self) {
        if self.closed || self.port.output.is_none() {
            return;
        }
        if self.stdin_taken >= STDIN_GIVE {
            self.stdin_credit += self.stdin_taken;
            let n = (self.stdin_taken as u32).to_be_bytes();
            self.port.out.frame(STDIN_CREDIT, &[&n]);
            self.stdin_taken = 0;
        }
        if self.stdout.is_none() && !self.eof_told[0] {
            self.eof_told[0] = true;
            self.port.out.frame(EOF, &[&[1]]);
        }
        let over = matches!(self.phase, Phase::Done) && self.outputs_ended();
        // At the end the rest of the tail goes out without credit: it is bounded.
        self.emit_stderr(over);
        if self.stderr.is_none() && self.stderr_tail.len() == 0 && !self.eof_told[1] {
            self.eof_told[1] = true;
            self.port.out.frame(EOF, &[&[2]]);
        }
        if over {
            self.emit_end();
        }
    }

    fn emit_stderr(&mut self, all: bool) {
        loop {
            let max = CHUNK.min(if all { usize::MAX } else { self.stderr_free() });
            let n = max.min(self.stderr_tail.len());
            if n == 0 {
                return;
            }
            let out = &mut self.port.out;
            self.stderr_tail.take(n, |a, b| out.frame(STDERR, &[a, b]));
            self.stderr_credit = self.stderr_credit.saturating_sub(n as u64);
            self.unseen += 1;
        }
    }

    fn emit_end(&mut self) {
        let (kind, n) = match self.family.ended() {
            Some(Ended::Status(n)) => (0, n),
            Some(Ended::Signal(n)) => (1, n),
            None => return self.fail("unkillable", "the child is still there after SIGKILL"),
        };
        let dropped = self.stderr_tail.dropped().to_be_bytes();
        drop(std::mem::take(&mut self.files));
        self.port.out.frame(EXIT, &[&[kind, n], &dropped]);
        self.closed = true;
    }
}
