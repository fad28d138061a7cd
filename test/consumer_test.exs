defmodule Codex.ConsumerTest do
  # An application that depends on this one by its path, and on nothing else, runs the README's first example.
  use ExUnit.Case, async: true

  @moduletag :codex_cli
  @moduletag :tmp_dir
  @moduletag timeout: 180_000

  @root Path.expand("..", __DIR__)

  test "compiles and runs a turn", %{tmp_dir: dir} do
    write(dir, "mix.exs", """
    defmodule Consumer.MixProject do
      use Mix.Project

      def project,
        do: [app: :consumer, version: "0.1.0", deps: [{:codex_sdk, path: #{inspect(@root)}}]]

      def application, do: []
    end
    """)

    write(dir, "lib/consumer.ex", """
    defmodule Consumer do
      def run do
    #{first_example()}
      end
    end
    """)

    # The CLI works in the current directory, and wants that to be a Git repository.
    {_, 0} = System.cmd("git", ["init", "--quiet", dir])
    model = Codex.Test.start!(["It says hello."])

    assert {_, 0} = mix(dir, ["deps.get"], model)
    assert {output, 0} = mix(dir, ["run", "-e", "Consumer.run()"], model)
    assert output =~ "Generated consumer app"
    assert List.last(String.split(output, "\n", trim: true)) == "It says hello."
    refute output =~ "warning"

    assert [%{body: %{"input" => input}}] = Codex.Test.requests(model)

    assert List.last(input)["content"] == [
             %{"type" => "input_text", "text" => "What does this project do?"}
           ]
  end

  defp first_example do
    [_, code] = Regex.run(~r/```elixir\n(.*?)```/s, File.read!(Path.join(@root, "README.md")))

    assert [
             "{:ok, thread} = Codex.start_thread()",
             "{:ok, result} = Codex.Thread.run(" <> _,
             "",
             "IO.puts(result.final_response.text)"
           ] = String.split(code, "\n", trim: false) |> Enum.drop(-1)

    code
  end

  defp mix(dir, args, model) do
    {:ok, codex} = Codex.Test.codex_path()

    # Without the variables of `mix test`. HOME stays, because cargo needs it.
    env =
      for(name <- ~w(MIX_ENV MIX_BUILD_PATH MIX_DEPS_PATH MIX_EXS), do: {name, nil}) ++
        [{"CODEX_PATH", codex}, {"CODEX_HOME", model.home}] ++
        Enum.to_list(Map.delete(model.env, "HOME"))

    System.cmd("mix", args, cd: dir, env: env, stderr_to_stdout: true)
  end

  defp write(dir, name, text) do
    path = Path.join(dir, name)
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, text)
  end
end
