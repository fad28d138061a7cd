//! Faults of the parser as atoms.

use codex_core::Fault;
use rustler::Atom;

mod atoms {
    rustler::atoms! { eof, syntax, trailing, control, escape, number, number_range, depth, utf8, nodes }
}

pub fn atom(fault: Fault) -> Atom {
    match fault {
        Fault::Eof => atoms::eof(),
        Fault::Syntax => atoms::syntax(),
        Fault::Trailing => atoms::trailing(),
        Fault::Control => atoms::control(),
        Fault::Escape => atoms::escape(),
        Fault::Number => atoms::number(),
        Fault::NumberRange => atoms::number_range(),
        Fault::Depth => atoms::depth(),
        Fault::Utf8 => atoms::utf8(),
        Fault::Nodes => atoms::nodes(),
    }
}
