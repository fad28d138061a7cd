defmodule Codex.Doctor.Installation do
  @moduledoc false
  # Checks the programs: the two native files of this package in `priv/native`, and the CLI.

  alias Codex.CLI.{Program, Range}
  alias Codex.Doctor.Check

  # --- The Rust library and the launcher --------------------------------------------------------

  def native(_context) do
    case :code.priv_dir(:codex_sdk) do
      {:error, :bad_name} ->
        {:error, "the directory of the application codex_sdk is not known"}

      priv ->
        library = library(Path.join(priv, "native/libcodex_nif.so"))
        details = [library, launcher(Path.join(priv, "native/codex_launcher"))]

        status = Check.worst(details)

        summary =
          if status == :error,
            do: "files are missing or invalid: run `mix compile`",
            else: native_summary(library)

        {status, summary, details, native: library.loaded}
    end
  end

  defp native_summary(%{version: version, keyring: true}),
    do: "version #{version}, with the keyring"

  defp native_summary(%{version: version}), do: "version #{version}, built without the keyring"

  defp library(path) do
    case about() do
      {version, keyring?} ->
        of_this_version(
          %{loaded: true, version: version, keyring: keyring?, file: path, text: path},
          to_string(Application.spec(:codex_sdk, :vsn))
        )

      nil ->
        why =
          if File.exists?(path),
            do:
              "it does not load: #{Codex.Native.load_error() || "it is older than the package"}",
            else: "there is no such file"

        text = "#{path}: #{why}"
        %{status: :error, loaded: false, version: nil, keyring: nil, file: path, text: text}
    end
  end

  defp about do
    Codex.Native.about()
  rescue
    # The library is missing, does not load, or is older than this function.
    _missing in [UndefinedFunctionError, RuntimeError] -> nil
  end

  defp of_this_version(%{version: version} = library, expected) when expected in [version, ""],
    do: library

  defp of_this_version(library, expected) do
    text = "#{library.file} has version #{library.version}, and the package has #{expected}"
    Map.merge(library, %{status: :error, text: text})
  end

  defp launcher(path) do
    case File.stat(path) do
      {:ok, %File.Stat{type: :regular, mode: mode}}
      when rem(div(mode, 64), 2) + rem(div(mode, 8), 2) + rem(mode, 2) > 0 ->
        %{file: path, text: path}

      {:ok, _} ->
        %{status: :error, file: path, text: "#{path} is not an executable file"}

      {:error, why} ->
        %{status: :error, file: path, text: "#{path}: #{:file.format_error(why)}"}
    end
  end

  # --- The CLI ----------------------------------------------------------------------------------

  def cli(context) do
    with {:ok, program} <- Program.find(context.codex_path || Program.named(context.env)),
         {:ok, version} <- Program.version(program) do
      found(program, version)
    else
      {:error, why} -> {:error, message(why)}
    end
  end

  defp found(program, version) do
    advice = Range.advice(version)

    facts = %{
      text: program,
      path: program,
      version: version,
      tested: advice == nil,
      tested_version: Range.newest(),
      lowest_version: Range.lowest()
    }

    summary = Enum.join(["codex-cli #{version}" | List.wrap(advice)], ", ")
    {if(advice, do: :warning, else: :ok), summary, [facts], program: program}
  end

  defp message(:codex_binary_not_found),
    do: "there is no `codex` on the PATH, and neither CODEX_PATH nor CODEX_BINARY is set"

  defp message({:codex_binary_missing, path}), do: "#{path} does not exist"
  defp message({:codex_binary_not_regular, path}), do: "#{path} is not a file"
  defp message({:codex_binary_not_executable, path}), do: "#{path} may not be executed"
  defp message(:no_version), do: "it does not print its version, so it is not a working codex"
  defp message({:not_started, error}), do: "it does not start: #{Exception.message(error)}"
end
