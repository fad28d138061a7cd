defmodule Mix.Tasks.Dialyzer do
  @moduledoc """
  Runs OTP's Dialyzer over the modules of this package, with unmatched results and unknown functions
  as errors.

  The analysis of OTP and Elixir takes a minute. `.plt/` keeps it for each pair of versions. If
  dialyxir is installed (`mix deps.get` with Hex), its task of this name runs instead.
  """
  @shortdoc "Runs OTP's Dialyzer over the modules of this package"
  use Mix.Task

  @apps ~w(erts kernel stdlib crypto public_key ssl inets elixir logger mix ex_unit)
  # No -Werror_handling: some functions only raise, on purpose.
  @flags ~w(-Wunmatched_returns -Wunknown)

  @impl true
  def run(_args) do
    Mix.Task.run("compile")

    plt =
      Path.join(".plt", "erts-#{:erlang.system_info(:version)}-elixir-#{System.version()}.plt")

    unless current?(plt), do: build(plt)

    beams = Path.join(Mix.Project.app_path(), "ebin")

    case dialyzer(["--plt", plt, "--no_check_plt"] ++ @flags ++ ["-r", beams], IO.stream()) do
      0 -> Mix.shell().info("Dialyzer found no problem")
      _ -> Mix.raise("Dialyzer found problems; they are above")
    end
  end

  defp current?(plt), do: File.exists?(plt) and dialyzer(["--check_plt", "--plt", plt], "") == 0

  # Dialyzer exits with 2 for warnings about OTP and Elixir, which do not matter here.
  defp build(plt) do
    Mix.shell().info("Building #{plt}")
    File.mkdir_p!(Path.dirname(plt))
    _status = dialyzer(["--build_plt", "--output_plt", plt, "--apps"] ++ @apps, "")
    unless File.exists?(plt), do: Mix.raise("Dialyzer built no #{plt}")
  end

  # Dialyzer reads the debug information of Elixir with code of Elixir. With --quiet, it would hide
  # unknown types and functions.
  defp dialyzer(args, into) do
    unless System.find_executable("dialyzer") do
      Mix.raise("there is no `dialyzer` on PATH: install it with OTP (Debian: erlang-dialyzer)")
    end

    env = [{"ERL_LIBS", :elixir |> :code.lib_dir() |> to_string() |> Path.dirname()}]
    options = [env: env, into: into, stderr_to_stdout: true]
    {_, status} = System.cmd("dialyzer", args, options)
    status
  end
end
