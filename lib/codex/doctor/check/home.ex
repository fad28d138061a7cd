defmodule Codex.Doctor.Check.Home do
  @moduledoc false
  # The directory in which the CLI keeps its state.

  alias Codex.Doctor.{Check, Place}
  alias Codex.Home

  @spec run(Place.t()) :: {Check.t(), Place.t()}
  def run(place) do
    env = Place.env(place)

    case Home.resolve(codex_home: place.codex_home, env: env) do
      {:ok, home} -> {look(home, env), %{place | home: home}}
      {:error, error} -> {Check.new(:home, :error, Exception.message(error)), place}
    end
  end

  defp look(home, env) do
    # Raw: without the file server. It is known to answer: the home was found.
    case :file.read_file_info(home, [:raw]) do
      {:ok, info} -> judge(home, File.Stat.from_record(info), me(), temporary(env))
      {:error, why} -> Check.new(:home, :error, "#{home}: #{:file.format_error(why)}")
    end
  end

  @doc "What a directory is worth as a home; `me` is the number of the user, nil where that is not known."
  @spec judge(Path.t(), File.Stat.t(), non_neg_integer() | nil, Path.t()) :: Check.t()
  def judge(home, stat, me, temporary) do
    writable? = stat.access in [:write, :read_write]
    other? = me != nil and stat.uid != me
    temporary? = String.starts_with?(home <> "/", String.trim_trailing(temporary, "/") <> "/")

    problems =
      for {true, status, text} <- [
            {not writable?, :error, "it cannot be written; the CLI keeps sessions there"},
            {other?, :warning, "it belongs to user #{stat.uid}, and this is user #{me}"},
            {temporary?, :warning,
             "it is in #{temporary}: the CLI puts no helper programs there, and says so on stderr in each run"}
          ],
          do: %{status: status, text: text}

    facts = %{
      text: "owner #{stat.uid}, mode #{mode(stat.mode)}",
      path: home,
      owner: stat.uid,
      mode: mode(stat.mode),
      writable: writable?,
      temporary: temporary?
    }

    Check.new(:home, Check.worst(problems), home, [facts | problems])
  end

  defp mode(mode), do: mode |> rem(0o1000) |> Integer.to_string(8) |> String.pad_leading(3, "0")

  # As Rust's standard library does, on which the CLI relies.
  defp temporary(env) do
    case env["TMPDIR"] do
      empty when empty in [nil, ""] -> "/tmp"
      dir -> Path.expand(dir)
    end
  end

  # Neither Elixir nor OTP tells.
  defp me do
    with program when is_binary(program) <- System.find_executable("id"),
         {text, 0} <- System.cmd(program, ["-u"], stderr_to_stdout: true),
         {uid, _} <- Integer.parse(text),
         do: uid,
         else: (_ -> nil)
  end
end
