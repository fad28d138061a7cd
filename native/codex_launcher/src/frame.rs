//! The frames between the VM and the launcher: four bytes of length (the port's `{packet, 4}`), one
//! byte of tag, then the payload. Numbers are big-endian, byte strings carry a 32-bit length.
//! Nothing here does I/O.

use std::ffi::CString;

/// The protocol version; the first byte of START. The Elixir side holds the same number.
pub const VERSION: u8 = 4;
/// The most bytes of a stream in one frame. Frame and header together fill a default pipe exactly.
pub const CHUNK: usize = 65_536 - HEADER;
/// Length and tag.
pub const HEADER: usize = 5;
/// Bytes of stdin the owner may have sent that the child has not taken yet. Those of START count.
pub const STDIN_WINDOW: usize = 256 * 1024;
/// Bytes of stderr that may be on their way to an owner that has not acknowledged them.
pub const STDERR_WINDOW: u64 = 64 * 1024;
/// Frames of bytes that may be on their way to an owner that has not looked at them. A child that
/// writes single bytes would otherwise fill its mailbox with messages that weigh a hundred times
/// their payload.
pub const FRAMES_WINDOW: u32 = 256;
/// The longest frame we accept. Only START comes near it; the kernel refuses argv and env long
/// before.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

const START: u8 = 1;
const STDIN: u8 = 2;
const STDIN_EOF: u8 = 3;
const CREDIT: u8 = 4;
const SIGNAL: u8 = 5;
const STOP: u8 = 6;
const BYE: u8 = 7;
const SEEN: u8 = 8;
const KEEP: u8 = 9;
const WINDOW: u8 = 10;

/// STARTED os_pid (u32).
pub const STARTED: u8 = 0x81;
/// STDIN_CREDIT bytes (u32).
pub const STDIN_CREDIT: u8 = 0x82;
/// STDOUT bytes.
pub const STDOUT: u8 = 0x83;
/// STDERR bytes.
pub const STDERR: u8 = 0x84;
/// EOF stream (1 stdout, 2 stderr).
pub const EOF: u8 = 0x85;
/// EXIT kind (0 status, 1 signal), number, dropped stderr bytes (u64).
pub const EXIT: u8 = 0x86;
/// ERROR length of code (u8), code, text. The last frame: the launcher then runs the ladder and
/// leaves.
pub const ERROR: u8 = 0x87;

/// The reason for refusing a frame. The text goes to the owner; it never holds payload bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// The frames of the owner.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Run this child.
    Start(Start),
    /// Bytes for its stdin.
    Stdin(&'a [u8]),
    /// Nothing more for its stdin.
    StdinEof,
    /// So many more bytes of stdout may be sent.
    StdoutCredit(u64),
    /// So many more bytes of stderr may be sent.
    StderrCredit(u64),
    /// Send this signal to the child's process group.
    Signal(u8),
    /// Discard further output and run the ladder.
    Stop,
    /// EXIT was seen.
    Bye,
    /// So many frames of bytes were taken out of the mailbox.
    Seen(u32),
    /// Instead of a child: remove these directories when the owner is gone. Each frame names all of
    /// them.
    Keep(Vec<CString>),
    /// The child's terminal has this size now.
    Window(Size),
}

/// The size of a terminal, in characters.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Size {
    /// The lines.
    pub rows: u16,
    /// The characters of a line.
    pub cols: u16,
}

/// Everything that says how the child is run.
#[derive(Debug, PartialEq, Eq, Clone, Default)]
pub struct Start {
    /// Bytes of stdout that may be sent at once.
    pub credit: u64,
    /// Bytes of stderr kept while the owner does not take them.
    pub stderr_limit: usize,
    /// Leave descendants alone when the child has exited.
    pub leave_descendants: bool,
    /// Milliseconds between TERM and KILL for descendants that outlive the child.
    pub sweep_grace: u32,
    /// The steps before the final KILL, in order.
    pub ladder: Vec<Rung>,
    /// The child's working directory; ours when absent.
    pub cwd: Option<CString>,
    /// Program and arguments; never empty.
    pub argv: Vec<CString>,
    /// The whole environment, `NAME=value`.
    pub env: Vec<CString>,
    /// Files that exist while the child runs.
    pub files: Vec<Content>,
    /// The first bytes of stdin.
    pub input: Vec<u8>,
    /// Stdin ends after them.
    pub input_ends: bool,
    /// The size of the terminal that the child gets; pipes if absent.
    pub terminal: Option<Size>,
}

/// A file and its content.
#[derive(PartialEq, Eq, Clone)]
pub struct Content {
    /// The path.
    pub path: CString,
    /// The content.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It may hold a secret.
        write!(f, "{:?} ({} bytes)", self.path, self.bytes.len())
    }
}

/// One step of the stop ladder and the milliseconds it gets.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Rung {
    /// The action.
    pub step: Step,
    /// The time that the child has before the next step.
    pub grace: u32,
}

/// The action of a step of the stop ladder.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Step {
    /// Drop the bytes that are queued for stdin, and close it.
    CloseStdin,
    /// Send this signal to the child's process group.
    Signal(u8),
}

/// Collects bytes from the port until they make a frame.
#[derive(Default)]
pub struct Decoder {
    buf: Vec<u8>,
    at: usize,
}

impl Decoder {
    /// Takes bytes of any cut.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at == self.buf.len() {
            self.buf.clear();
            self.at = 0;
            // One long START must not pin its buffer for the child's whole life.
            self.buf.shrink_to(2 * STDIN_WINDOW);
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next whole frame, without its length; `None` until there is one.
    pub fn next(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let rest = &self.buf[self.at..];
        let Some((head, body)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(*head) as usize;
        if len > MAX_FRAME {
            return Err(Malformed("frame too long"));
        }
        if body.len() < len {
            return Ok(None);
        }
        let from = self.at + 4;
        self.at = from + len;
        Ok(Some(&self.buf[from..self.at]))
    }
}

/// Reads one frame.
pub fn parse(frame: &[u8]) -> Result<Command<'_>, Malformed> {
    let Some((&tag, payload)) = frame.split_first() else {
        return Err(Malformed("empty frame"));
    };
    let mut r = Reader(payload);
    let command = match tag {
        START => Command::Start(start(&mut r)?),
        STDIN => Command::Stdin(std::mem::take(&mut r.0)),
        STDIN_EOF => Command::StdinEof,
        CREDIT => match (r.u8()?, r.u64()?) {
            (1, n) => Command::StdoutCredit(n),
            (2, n) => Command::StderrCredit(n),
            _ => return Err(Malformed("credit for an unknown stream")),
        },
        SIGNAL => Command::Signal(r.signal()?),
        STOP => Command::Stop,
        BYE => Command::Bye,
        SEEN => Command::Seen(r.u32()?),
        KEEP => Command::Keep(r.cstrings()?),
        WINDOW => Command::Window(r.size()?),
        _ => return Err(Malformed("unknown tag")),
    };
    if r.0.is_empty() { Ok(command) } else { Err(Malformed("bytes after the frame's last field")) }
}

fn start(r: &mut Reader<'_>) -> Result<Start, Malformed> {
    if r.u8()? != VERSION {
        return Err(Malformed("unknown protocol version"));
    }
    let start = Start {
        credit: r.u64()?,
        stderr_limit: r.u32()? as usize,
        leave_descendants: r.u8()? != 0,
        sweep_grace: r.u32()?,
        ladder: {
            let n = r.u8()?;
            (0..n).map(|_| rung(r)).collect::<Result<_, _>>()?
        },
        cwd: match r.u8()? {
            0 => None,
            _ => Some(r.cstring()?),
        },
        argv: r.cstrings()?,
        env: r.cstrings()?,
        files: {
            let n = r.u32()?;
            (0..n)
                .map(|_| Ok(Content { path: r.cstring()?, bytes: r.bytes()?.to_vec() }))
                .collect::<Result<_, _>>()?
        },
        input: r.bytes()?.to_vec(),
        input_ends: r.u8()? != 0,
        terminal: match r.u8()? {
            0 => None,
            _ => Some(r.size()?),
        },
    };
    if start.input.len() > STDIN_WINDOW {
        return Err(Malformed("stdin beyond its credit"));
    }
    if start.argv.is_empty() {
        return Err(Malformed("argv is empty"));
    }
    Ok(start)
}

fn rung(r: &mut Reader<'_>) -> Result<Rung, Malformed> {
    let step = match r.u8()? {
        0 => {
            r.u8()?;
            Step::CloseStdin
        }
        1 => Step::Signal(r.signal()?),
        _ => return Err(Malformed("unknown ladder step")),
    };
    Ok(Rung { step, grace: r.u32()? })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed("frame ends early"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    fn size(&mut self) -> Result<Size, Malformed> {
        let (rows, cols) = (u16::from_be_bytes(self.array()?), u16::from_be_bytes(self.array()?));
        Ok(Size { rows, cols })
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn signal(&mut self) -> Result<u8, Malformed> {
        match self.u8()? {
            n @ 1..=64 => Ok(n),
            _ => Err(Malformed("signal number out of range")),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()? as usize;
        let (head, rest) = self.0.split_at_checked(len).ok_or(Malformed("frame ends early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn cstring(&mut self) -> Result<CString, Malformed> {
        CString::new(self.bytes()?).map_err(|_| Malformed("null byte in a string"))
    }

    fn cstrings(&mut self) -> Result<Vec<CString>, Malformed> {
        let n = self.u32()?;
        // No capacity from the wire: a wrong count ends at the first missing string.
        (0..n).map(|_| self.cstring()).collect()
    }
}

/// Bytes that wait for the VM to read them. The caller keeps it bounded: see [`Out::len`].
#[derive(Default)]
pub struct Out {
    buf: Vec<u8>,
    from: usize,
    to: usize,
}

impl Out {
    /// Bytes not yet taken.
    pub fn len(&self) -> usize {
        self.to - self.from
    }

    /// The bytes to write next.
    pub fn pending(&self) -> &[u8] {
        &self.buf[self.from..self.to]
    }

    /// So many of them were written.
    pub fn consume(&mut self, n: usize) {
        self.from += n;
        debug_assert!(self.from <= self.to);
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        (self.from, self.to) = (0, 0);
    }

    /// Appends a frame.
    pub fn frame(&mut self, tag: u8, parts: &[&[u8]]) {
        let len = parts.iter().map(|p| p.len()).sum();
        let mut at = 0;
        let space = self.space(len);
        for part in parts {
            space[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.commit(tag, len);
    }

    /// Room for the payload of a frame, which [`Out::commit`] then makes one. Reading a pipe
    /// straight into it saves a copy of every byte.
    pub fn space(&mut self, len: usize) -> &mut [u8] {
        let at = self.to + HEADER;
        if self.buf.len() < at + len {
            self.buf.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            let need = self.to + HEADER + len;
            if self.buf.len() < need {
                self.buf.resize(need, 0);
            }
        }
        let at = self.to + HEADER;
        &mut self.buf[at..at + len]
    }

    /// Makes the first `len` bytes of the last [`Out::space`] a frame.
    pub fn commit(&mut self, tag: u8, len: usize) {
        let head = &mut self.buf[self.to..self.to + HEADER];
        head[..4].copy_from_slice(&(len as u32 + 1).to_be_bytes());
        head[4] = tag;
        self.to += HEADER + len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(s: &str) -> CString {
        CString::new(s).unwrap()
    }

    fn put(out: &mut Vec<u8>, s: &[u8]) {
        out.extend((s.len() as u32).to_be_bytes());
        out.extend(s);
    }

    fn start_frame() -> (Vec<u8>, Start) {
        let mut f = vec![START, VERSION];
        f.extend(1_048_576u64.to_be_bytes());
        f.extend(65_536u32.to_be_bytes());
        f.push(0);
        f.extend(200u32.to_be_bytes());
        f.push(2);
        f.extend([0, 0, 0, 0, 0, 100, 1, 15, 0, 0, 3, 232]);
        f.push(1);
        put(&mut f, b"/tmp");
        f.extend(2u32.to_be_bytes());
        put(&mut f, b"cat");
        put(&mut f, b"");
        f.extend(1u32.to_be_bytes());
        put(&mut f, b"A=b");
        f.extend(1u32.to_be_bytes());
        put(&mut f, b"/tmp/x");
        put(&mut f, b"a\0b");
        put(&mut f, b"go\n");
        f.extend([1, 1, 0, 24, 1, 4]);
        let start = Start {
            credit: 1_048_576,
            stderr_limit: 65_536,
            leave_descendants: false,
            sweep_grace: 200,
            ladder: vec![
                Rung { step: Step::CloseStdin, grace: 100 },
                Rung { step: Step::Signal(15), grace: 1000 },
            ],
            cwd: Some(c("/tmp")),
            argv: vec![c("cat"), c("")],
            env: vec![c("A=b")],
            files: vec![Content { path: c("/tmp/x"), bytes: b"a\0b".to_vec() }],
            input: b"go\n".to_vec(),
            input_ends: true,
            terminal: Some(Size { rows: 24, cols: 260 }),
        };
        (f, start)
    }

    #[test]
    fn start_is_read() {
        let (f, start) = start_frame();
        assert_eq!(parse(&f), Ok(Command::Start(start)));
    }

    #[test]
    fn every_prefix_of_start_is_refused() {
        let (f, _) = start_frame();
        for n in 0..f.len() {
            assert!(parse(&f[..n]).is_err(), "prefix of {n} bytes");
        }
    }

    #[test]
    fn every_single_byte_change_is_survived() {
        let (f, _) = start_frame();
        for i in 0..f.len() {
            for bit in 0..8 {
                let mut g = f.clone();
                g[i] ^= 1 << bit;
                let _ = parse(&g);
            }
        }
    }

    #[test]
    fn small_frames() {
        assert_eq!(parse(&[STDIN, 1, 2]), Ok(Command::Stdin(&[1, 2])));
        assert_eq!(parse(&[STDIN_EOF]), Ok(Command::StdinEof));
        assert_eq!(parse(&[CREDIT, 1, 0, 0, 0, 0, 0, 0, 0, 9]), Ok(Command::StdoutCredit(9)));
        assert_eq!(parse(&[CREDIT, 2, 0, 0, 0, 0, 0, 0, 1, 0]), Ok(Command::StderrCredit(256)));
        assert_eq!(parse(&[SIGNAL, 2]), Ok(Command::Signal(2)));
        assert_eq!(parse(&[STOP]), Ok(Command::Stop));
        assert_eq!(parse(&[BYE]), Ok(Command::Bye));
        assert_eq!(parse(&[SEEN, 0, 0, 0, 64]), Ok(Command::Seen(64)));
        let size = Size { rows: 50, cols: 256 };
        assert_eq!(parse(&[WINDOW, 0, 50, 1, 0]), Ok(Command::Window(size)));
    }

    #[test]
    fn nonsense_is_refused() {
        for f in [
            &[][..],
            &[0],
            &[99],
            &[STOP, 0],
            &[SIGNAL, 0],
            &[SIGNAL, 65],
            &[CREDIT, 3, 0, 0, 0, 0, 0, 0, 0, 9],
        ] {
            assert!(parse(f).is_err(), "{f:?}");
        }
    }

    #[test]
    fn any_cut_gives_the_same_frames() {
        let mut wire = Vec::new();
        let frames: Vec<Vec<u8>> =
            (0u32..50).map(|i| vec![i as u8; (i * 37 % 11) as usize]).collect();
        for f in &frames {
            put(&mut wire, f);
        }
        for cut in 1..40 {
            let mut d = Decoder::default();
            let mut seen = Vec::new();
            for chunk in wire.chunks(cut) {
                d.push(chunk);
                while let Some(f) = d.next().unwrap() {
                    seen.push(f.to_vec());
                }
            }
            assert_eq!(seen, frames, "cut at {cut}");
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_it_is_collected() {
        let mut d = Decoder::default();
        d.push(&u32::MAX.to_be_bytes());
        assert_eq!(d.next(), Err(Malformed("frame too long")));
    }

    #[test]
    fn out_keeps_order_over_partial_writes() {
        let mut out = Out::default();
        let mut wire: Vec<u8> = Vec::new();
        let mut expected = Vec::new();
        for i in 0u32..1000 {
            let body = vec![i as u8; (i % 97) as usize];
            out.frame(STDOUT, &[&body[..body.len() / 2], &body[body.len() / 2..]]);
            expected.extend((body.len() as u32 + 1).to_be_bytes());
            expected.push(STDOUT);
            expected.extend(&body);
            let n = out.len().min((i % 61) as usize);
            wire.extend(&out.pending()[..n]);
            out.consume(n);
        }
        wire.extend(out.pending());
        assert_eq!(wire, expected);
    }
}
