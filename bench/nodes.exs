# Measures the memory of the values of one message. Each shape is one line with the default limit of
# values and keys, decoded in a separate VM. The figures are the peak memory of that VM without the
# line, in bytes per value. Run: mix run bench/nodes.exs [nodes]
nodes =
  case System.argv() do
    [nodes] -> String.to_integer(nodes)
    [] -> Codex.JSON.max_nodes()
  end

shapes = [
  {"[{},{},…",
   ~S"""
   "[" <> String.duplicate("{},", n - 2) <> "{}]"
   """},
  {"[[],[],…",
   ~S"""
   "[" <> String.duplicate("[],", n - 2) <> "[]]"
   """},
  {"[1,1,…",
   ~S"""
   "[" <> String.duplicate("1,", n - 2) <> "1]"
   """},
  {"[\"x\",…",
   ~S"""
   "[" <> String.duplicate("\"x\",", n - 2) <> "\"x\"]"
   """},
  {"[[[[…]]]]",
   ~S"""
   String.duplicate("[[[[[[[[[[[[1]]]]]]]]]]]],", div(n, 13)) |> then(&"[#{&1}1]")
   """},
  {"{\"k1\":1,…",
   ~S"""
   "{" <> Enum.map_join(1..div(n, 2) - 1//1, ",", &"\"#{&1}\":1") <> "}"
   """},
  {"{\"k\":1,…",
   ~S"""
   "{" <> Enum.map_join(1..div(n, 2) - 1//1, ",", fn _ -> "\"k\":1" end) <> "}"
   """},
  {"[{\"k\":1},…",
   ~S"""
   "[" <> String.duplicate("{\"k\":1},", div(n, 3) - 2) <> "{}]"
   """},
  {"[{\"a\":1,…33},…",
   ~S"""
   object = "{" <> Enum.map_join(1..33, ",", &"\"a#{&1}\":1") <> "}"; "[" <> String.duplicate(object <> ",", div(n, 67) - 2) <> "{}]"
   """}
]

paths = for path <- :code.get_path(), to_string(path) =~ "_build", do: ["-pa", "#{path}"]

for {name, make} <- shapes do
  script = """
  n = #{nodes}
  line = (#{make}) <> "\\n"
  peak = fn -> [_, kb] = Regex.run(~r/VmHWM:\\s+(\\d+)/, File.read!("/proc/self/status")); String.to_integer(kb) * 1024 end
  :erlang.garbage_collect()
  File.write("/proc/self/clear_refs", "5")
  before = peak.()
  {us, events} = :timer.tc(fn -> Codex.JSONL.decode(line) end)
  kind = case events do [%Codex.Events.Unknown{error: nil}] -> "whole"; [%{message: text}] -> text; other -> inspect(other, limit: 3, printable_limit: 80) end
  IO.puts([Float.to_string(Float.round(byte_size(line) / 1.0e6, 1)), " MB, ", to_string(div(peak.() - before, 1_000_000)), " MB more, ",
    to_string(div(peak.() - before, n)), " bytes a node, ", to_string(div(us, 1000)), " ms, ", kind])
  """

  {out, 0} = System.cmd("elixir", Enum.concat(paths) ++ ["-e", script], stderr_to_stdout: true)
  IO.puts(String.pad_trailing(name, 18) <> String.trim(out))
end
