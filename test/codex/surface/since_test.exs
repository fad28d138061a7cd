defmodule Codex.Surface.SinceTest do
  use ExUnit.Case, async: true

  alias Codex.CLI
  alias Codex.Surface
  alias Codex.Surface.{Flags, Protocol, Since}

  @moduletag :tmp_dir

  defp surface(cli, protocol, flags),
    do: %{cli: cli, parts: [{Protocol, protocol}, {Flags, %{"exec" => flags}}]}

  @old [
    request: {"thread/list", [params: {:ref, "P"}]},
    type: {"P", {:fields, [optional: {"limit", :count}, optional: {"kind", {:ref, "K"}}]}},
    type: {"K", {:one_of, [{:word, "cli"}, {:word, "exec"}]}}
  ]

  @new [
    request: {"thread/clone", [params: {:fields, [required: {"threadId", :string}]}]},
    request: {"thread/list", [params: {:ref, "P"}]},
    type:
      {"P",
       {:fields,
        [
          optional: {"limit", :count},
          optional: {"kind", {:ref, "K"}},
          optional: {"filter", {:nullable, {:ref, "F"}}},
          optional: {"next", {:ref, "P"}}
        ]}},
    type: {"F", {:fields, [optional: {"by", {:word, "name"}}, other: :string]}},
    type: {"K", {:one_of, [{:word, "cli"}, {:word, "exec"}, {:word, "ide"}]}}
  ]

  test "names are requests, parameters, words and flags; members of new ones are left out" do
    old = surface("1.0.0", @old, %{"--json" => %{}})
    new = surface("1.1.0", @new, %{"--json" => %{}, "--clone" => %{}})
    names = ["--clone", "thread/clone", "thread/list.filter", "thread/list.kind=ide"]
    assert Since.added(old, new) == names ++ ["thread/list.next"]
    assert Since.added(new, new) == []
  end

  test "new names are added to the file once, by the new version", %{tmp_dir: dir} do
    path = Path.join(dir, "priv/cli/since.exs")
    File.mkdir_p!(Path.dirname(path))
    File.cp!("priv/cli/since.exs", path)
    before = File.read!(path)
    old = surface("1.0.0", @old, %{"--json" => %{}, "--remote" => %{}})
    new = surface("1.1.0", @new, %{"--json" => %{}, "--remote" => %{}})

    for _ <- 1..2, do: :ok = Since.write!(dir, old, new)
    text = File.read!(path)
    assert String.starts_with?(text, String.trim_trailing(before, "\n]\n"))
    {:ok, versions} = Code.string_to_quoted(text)
    {:ok, known} = Code.string_to_quoted(before)

    assert versions -- known == [
             {"1.1.0",
              ["thread/clone", "thread/list.filter", "thread/list.kind=ide", "thread/list.next"]}
           ]
  end

  # The file was made from the schemas of the CLI, and the data has the same names.
  test "the file has the names of the stored data that are new since then" do
    %{parts: parts} = Surface.stored!(File.cwd!())
    {Protocol, protocol} = List.keyfind!(parts, Protocol, 0)
    nothing = surface("0.0.0", [], %{})
    all = Since.added(nothing, %{nothing | parts: parts})
    assert "--json" in all
    requests = for {:request, {name, _}} <- protocol, name != "initialize", do: name
    assert Enum.reject(all, &String.starts_with?(&1, "--")) == Enum.sort(requests)

    unknown =
      for {name, version} <- CLI.Since.names(),
          Version.compare(version, CLI.Range.newest()) != :gt,
          name =~ ~r/^[^.=]+$/,
          name not in all,
          do: name

    assert unknown == []
  end
end
