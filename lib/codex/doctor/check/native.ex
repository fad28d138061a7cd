defmodule Codex.Doctor.Check.Native do
  @moduledoc false
  # The two files that the compiler `codex_native` puts into `priv/native`.

  alias Codex.Doctor.{Check, Place}

  @spec run(Place.t()) :: {Check.t(), Place.t()}
  def run(place) do
    case :code.priv_dir(:codex_sdk) do
      {:error, :bad_name} ->
        {Check.new(:native, :error, "the folder of the application codex_sdk is not known"),
         place}

      priv ->
        details = [library(Path.join(priv, "native/libcodex_nif.so")), launcher(priv)]
        {check(details), %{place | native?: hd(details).loaded}}
    end
  end

  defp check([library, _launcher] = details) do
    case Check.worst(details) do
      :error -> Check.new(:native, :error, "it is not whole: `mix compile` makes it", details)
      _ -> Check.new(:native, :ok, summary(library), details)
    end
  end

  defp summary(%{version: version, keyring: true}), do: "version #{version}, with the keyring"
  defp summary(%{version: version}), do: "version #{version}, built without the keyring"

  defp library(path) do
    # Where it does not load, neither does the module.
    case {Code.ensure_loaded(Codex.Native), about()} do
      {{:module, _}, {version, keyring?}} ->
        of_this_version(
          %{loaded: true, version: version, keyring: keyring?, file: path, text: path},
          to_string(Application.spec(:codex_sdk, :vsn))
        )

      {_, nil} ->
        why =
          if File.exists?(path),
            do: "it does not load: it was built for another system, or is of another version",
            else: "there is no such file"

        text = "#{path}: #{why}"
        %{status: :error, loaded: false, version: nil, keyring: nil, file: path, text: text}
    end
  end

  defp about do
    Codex.Native.about()
  rescue
    # No module; or a library of before, that has no such function.
    _none in [UndefinedFunctionError, ErlangError] -> nil
  end

  defp of_this_version(%{version: version} = library, expected) when expected in [version, ""],
    do: library

  defp of_this_version(library, expected) do
    text = "#{library.file} is of version #{library.version}, and the package of #{expected}"
    Map.merge(library, %{status: :error, text: text})
  end

  defp launcher(priv) do
    path = Path.join(priv, "native/codex_launcher")

    case File.stat(path) do
      {:ok, %File.Stat{type: :regular, mode: mode}}
      when rem(div(mode, 64), 2) + rem(div(mode, 8), 2) + rem(mode, 2) > 0 ->
        %{file: path, text: path}

      {:ok, _} ->
        %{status: :error, file: path, text: "#{path} is no program"}

      {:error, why} ->
        %{status: :error, file: path, text: "#{path}: #{:file.format_error(why)}"}
    end
  end
end
