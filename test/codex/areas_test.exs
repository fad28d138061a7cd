defmodule Codex.AreasTest do
  # Areas of `lib/` need each other in one direction only. An area is a folder or a top file of
  # `lib/codex/`, or one of `@parts`. `mix xref` knows which file needs which.
  use ExUnit.Case, async: true

  # The rows of the picture in CONTRIBUTING.md, from top to bottom. An area may need areas to its
  # right and areas of lower rows.
  @rows [
    ~w(mix application cli doctor test compat login terminal),
    ~w(codex batch threads thread),
    ~w(agent_runner runner run_result_streaming stream stream_event),
    ~w(skills prompts mcp_config),
    ~w(pool app_server exec mcp bridge),
    ~w(jsonrpc turn review),
    ~w(models auth agents session_store),
    ~w(options tools tool files hooks approvals retry rate_limit telemetry),
    ~w(sessions config home temporary_directories program protocol),
    ~w(http error jsonl input),
    ~w(subprocess toml file_system native_pool),
    ~w(exceptions settings owner_monitor did_you_mean started format),
    ~w(schema json text native redaction events short_inspect)
  ]
  @order List.flatten(@rows)
  @place @order |> Enum.with_index() |> Map.new()

  # Areas with files from several folders: `agents` are the values that describe agents, and
  # `agent_runner` runs them; `runner` prepares turns; exceptions and the engine of options
  # (`settings`) are values that all others use; `toml` writes values and knows the keys of the
  # CLI's configuration; `mcp_config` is the configuration of MCP servers, which a client of MCP
  # does not need; `program` finds the program of the CLI and runs it, and `cli` has a function for
  # each of its commands.
  @parts %{
    "agent_runner" =>
      ~w(agent_runner agent/loop agent/setup agent/calls agent/history agent/run agent/hooks) ++
        ~w(agent/handoff_tool),
    "runner" => ~w(thread/runner),
    "agents" => ~w(agent run_config model_settings handoff guardrail tool_guardrail session),
    "events" => ~w(events items),
    "mcp_config" => ~w(mcp/config),
    "program" => ~w(cli/program cli/command cli/git cli/npm cli/range cli/since),
    "exceptions" =>
      ~w(approval_error guardrail_error transport_error reason) ++
        ~w(config/error subprocess/error compat/constraint_error),
    "settings" =>
      ~w(option_error options/schema options/type options/keywords options/places) ++
        ~w(options/rows options/sandbox options/effort session_store/settings),
    "tool" => ~w(tool function_tool tool_output),
    "toml" => ~w(options/overrides config/key config/schema)
  }

  # Arrows that still point upwards, as `{from, to}`.
  @upward []

  @root Path.expand("../..", __DIR__)

  defp area("lib/mix/" <> _), do: "mix"
  defp area("lib/" <> file) when file in ["codex.ex", "codex_sdk.ex"], do: "codex"

  defp area("lib/codex/" <> file) do
    name = Path.rootname(file)
    top = name |> Path.split() |> hd()
    part = Enum.find(@parts, fn {_area, names} -> Enum.any?(names, &within?(name, &1)) end)
    if part, do: elem(part, 0), else: top
  end

  defp within?(name, part), do: name == part or String.starts_with?(name, part <> "/")

  # Returns `{file, needed file}` for the files of `lib/`.
  defp needs do
    graph =
      ExUnit.CaptureIO.capture_io(fn ->
        Mix.Task.rerun("xref", ~w(graph --format plain --no-compile))
      end)

    {_file, pairs} =
      for line <- String.split(graph, "\n", trim: true), reduce: {nil, []} do
        {file, pairs} ->
          case Regex.run(~r/^(\|-- |`-- )?(\S+\.ex)/, line) do
            [_, "", file] -> {file, pairs}
            [_, _, needed] -> {file, [{file, needed} | pairs]}
          end
      end

    for {"lib/" <> _ = file, "lib/" <> _ = needed} <- pairs, do: {file, needed}
  end

  test "every area has its place in the order" do
    files = for file <- Path.wildcard(@root <> "/lib/**/*.ex"), do: Path.relative_to(file, @root)
    assert files |> Enum.map(&area/1) |> Enum.uniq() |> Enum.sort() == Enum.sort(@order)
  end

  test "areas need only areas to their right and below" do
    needs = needs()
    assert length(needs) > 400

    upward =
      for {file, needed} <- needs,
          {from, to} = {area(file), area(needed)},
          @place[to] < @place[from],
          {from, to} not in @upward,
          do: "#{from} -> #{to}: #{file} needs #{needed}"

    assert upward == []

    found = for {file, needed} <- needs, uniq: true, do: {area(file), area(needed)}
    assert @upward -- found == [], "these arrows are gone: take them out of @upward"
  end

  test "the picture in CONTRIBUTING.md has these rows" do
    text = File.read!(Path.join(@root, "CONTRIBUTING.md"))
    [_, picture] = Regex.run(~r/^```text\n(.*?)^```/ms, text)
    lines = for line <- String.split(picture, "\n"), line =~ "│", do: line

    rows =
      for line <- lines,
          [_, _title, areas | _] <- [String.split(line, "│")],
          areas = String.split(areas),
          areas != [],
          do: areas

    assert rows == @rows
  end

  describe "crates" do
    # The crates of this package that a crate depends on.
    defp crates(name) do
      toml = File.read!(Path.join(@root, "native/#{name}/Cargo.toml"))
      for [_, needed] <- Regex.scan(~r/^(codex_\w+)\s*=/m, toml), do: needed
    end

    test "only the NIF needs the core; the launcher stands alone" do
      assert crates("codex_core") == []
      assert crates("codex_launcher") == []
      assert crates("codex_nif") == ["codex_core"]
    end

    test "credentials of the core have no circle of files" do
      folder = Path.join(@root, "native/codex_core/src/auth")
      names = for file <- Path.wildcard(folder <> "/*.rs"), do: Path.basename(file, ".rs")
      graph = :digraph.new()
      for name <- names, do: :digraph.add_vertex(graph, name)

      for name <- names,
          needed <- siblings(Path.join(folder, name <> ".rs")),
          needed in names,
          do: :digraph.add_edge(graph, name, needed)

      assert :digraph.no_edges(graph) > 5
      assert :digraph_utils.cyclic_strong_components(graph) == []
    end

    # The modules in `use super::…`, without those of the tests.
    defp siblings(file) do
      [code | _tests] = file |> File.read!() |> String.split("#[cfg(test)]")

      for [_, use] <- Regex.scan(~r/^use super::(.*?);/ms, code),
          [name] <- Regex.scan(~r/(?:^|[{ ])([a-z_]+)/, use, capture: :all_but_first),
          do: name
    end
  end
end
