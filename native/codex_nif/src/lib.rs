rustler::init!("Elixir.Codex.Native");
