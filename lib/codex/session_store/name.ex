defmodule Codex.SessionStore.Name do
  @moduledoc false
  # The names of session files. Names that a store returns become paths, so nothing but a name of
  # the CLI is taken.

  @id "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

  @typedoc "A name taken apart. `folder` is the folder of its day, from the home on."
  @type t :: %{file: String.t(), thread: String.t(), rollout: String.t(), folder: Path.t()}

  @doc """
  Takes the name of a plain session file apart.

      iex> id = "01a21974-8f0c-7940-b1d5-036bc64902f4"
      iex> {:ok, name} = Codex.SessionStore.Name.parse("rollout-2026-11-26T20-03-18-\#{id}.jsonl")
      iex> {name.thread == id, name.folder}
      {true, "sessions/2026/11/26"}
      iex> Codex.SessionStore.Name.parse("../rollout.jsonl")
      :error
  """
  @spec parse(term()) :: {:ok, t()} | :error
  def parse(file) when is_binary(file) and byte_size(file) < 256 do
    case Regex.run(pattern(), file) do
      [^file, year, month, day, thread | segment] ->
        rollout = List.first(segment) || thread
        folder = Path.join(["sessions", year, month, day])
        {:ok, %{file: file, thread: thread, rollout: rollout, folder: folder}}

      nil ->
        :error
    end
  end

  def parse(_file), do: :error

  defp pattern do
    ~r/\Arollout-(\d{4})-(\d\d)-(\d\d)T\d\d-\d\d-\d\d-(#{@id})(?:_(#{@id}))?\.jsonl\z/
  end

  @doc "Returns the key of a file."
  @spec key(t()) :: Codex.SessionStore.key()
  def key(name), do: {name.thread, name.file}

  @doc "Returns whether a term is the id of a thread."
  @spec id?(term()) :: boolean()
  def id?(id), do: is_binary(id) and byte_size(id) == 36 and id =~ ~r/\A#{@id}\z/

  @doc "Returns the name of a session file without the ending of compressed files."
  @spec of(Path.t()) :: String.t()
  def of(path), do: path |> Path.basename() |> String.replace_suffix(".zst", "")
end
