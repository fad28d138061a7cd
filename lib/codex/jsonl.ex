defmodule Codex.JSONL do
  @moduledoc """
  Decodes the output of `codex exec --json`, cut anywhere, into `Codex.Events` structs.

  The runs of this SDK use it; with a recorded stream it is useful by itself:

      iex> decoder = Codex.JSONL.new()
      iex> Codex.JSONL.feed(decoder, ~s({"type":"thread.started","thr))
      []
      iex> [event] = Codex.JSONL.feed(decoder, ~s(ead_id":"t1"}\\n{"type":"turn.started"}))
      iex> event.thread_id
      "t1"
      iex> Codex.JSONL.finish(decoder)
      [%Codex.Events.TurnStarted{}]

  Lines end at `\\n` (a `\\r` before it is dropped); blank lines and a byte order mark at the start
  of the stream are skipped. Nothing is lost and nothing raises: a line that is not JSON is a
  `Codex.Events.Unknown` with its bytes, a line over `:max_line_bytes` or `:max_line_nodes` is a
  `Codex.Events.Error` that names the limit and the size of the line, and decoding goes on with the
  next line. Of a key that stands twice in an object, the last one counts; integers have any size up
  to 1024 digits.

  A decoder is a mutable resource for one process: it keeps the part of the line that has not ended
  yet. A call decodes 64 KiB at a time on a normal scheduler, each in well below a millisecond;
  lines over 256 KiB, and lines of many thousand values, go to a dirty one. Strings are copies, so
  that a small field that is kept does not keep the whole chunk.
  """

  alias Codex.{Events, JSON, Native}
  alias Codex.Options.Schema

  @enforce_keys [:ref]
  defstruct [:ref]

  @typedoc "A decoder, with the bytes of an incomplete line."
  @opaque t :: %__MODULE__{ref: reference()}

  @schema Schema.new([
            {:max_line_bytes, :bytes, "the longest line", default: 256 * 1024 * 1024},
            {:max_line_nodes, :positive,
             "how many values and keys a line may have, without the keys that events and items " <>
               "have anyway. The default is some 270 MB of terms at worst",
             default: JSON.max_nodes()}
          ])

  @doc """
  Makes a decoder.

  Options:

  #{Schema.docs(@schema)}
  """
  @spec new(keyword()) :: t()
  def new(opts \\ []) do
    opts = Schema.validate!(@schema, opts)
    %__MODULE__{ref: Native.decoder_new(opts.max_line_bytes, opts.max_line_nodes)}
  end

  @doc """
  Returns the events of the lines that end in `chunk`.

  Raises `ErlangError` with `:in_use` while another process is inside the same decoder.
  """
  @spec feed(t(), binary()) :: [Events.t()]
  def feed(%__MODULE__{ref: ref}, chunk) when is_binary(chunk) do
    make_room(byte_size(chunk))
    feed(ref, chunk, 0)
  end

  # A string costs seven times as much if the heap has no room: the VM allocates it alone, and
  # copies it soon. So a process that was started with a heap for several chunks (`:min_heap_size`,
  # 65_536 words are good) collects before a chunk, while the events of the last chunk are garbage,
  # and not after it. Any other heap would only shrink (bench/decode).
  defp make_room(bytes) when bytes < 16 * 1024, do: :ok

  defp make_room(bytes) do
    words = div(min(bytes, 64 * 1024), 2)
    {:garbage_collection, settings} = :erlang.process_info(self(), :garbage_collection)
    if settings[:min_heap_size] >= 2 * words, do: make_room_of(words), else: :ok
  end

  defp make_room_of(words) do
    {_, info} = :erlang.process_info(self(), :garbage_collection_info)

    if info[:heap_block_size] - info[:heap_size] < words,
      do: :erlang.garbage_collect(self(), type: :minor),
      else: :ok
  end

  defp feed(ref, chunk, at) do
    case Native.decoder_feed(ref, chunk, at) do
      {lines, :done} -> Events.from_native(lines)
      {lines, {:more, at}} -> Events.from_native(lines) ++ feed(ref, chunk, at)
      {lines, {:long, at}} -> Events.from_native(lines) ++ feed_long(ref, chunk, at)
    end
  end

  defp feed_long(ref, chunk, at) do
    case Native.decoder_feed_long(ref, chunk, at) do
      {lines, :done} -> Events.from_native(lines)
      {lines, {_, at}} -> Events.from_native(lines) ++ feed(ref, chunk, at)
    end
  end

  @doc "Returns the event of a last line without a newline, and empties the decoder."
  @spec finish(t()) :: [Events.t()]
  def finish(%__MODULE__{ref: ref}), do: ref |> Native.decoder_finish() |> Events.from_native()

  @doc """
  Returns all events of a whole recorded stream.

      iex> Codex.JSONL.decode(~s({"type":"turn.started"}))
      [%Codex.Events.TurnStarted{}]
  """
  @spec decode(binary(), keyword()) :: [Events.t()]
  def decode(stream, opts \\ []) when is_binary(stream) do
    decoder = new(opts)
    feed(decoder, stream) ++ finish(decoder)
  end
end
