defmodule Codex.Turn.Extras do
  @moduledoc false
  # The option `keep`: the JSON lines and the stderr of a turn, for its result. A value in the state
  # of a transport; it becomes the last element of an attempt, `{:extras, map}`.

  # Bytes of JSON that are kept, from the beginning of the turn.
  @most 8 * 1024 * 1024

  defstruct [:stderr?, json: nil, bytes: 0, cut?: false]

  @type t :: %__MODULE__{
          stderr?: boolean(),
          json: [iodata()] | nil,
          bytes: non_neg_integer(),
          cut?: boolean()
        }

  @doc "Returns empty extras, or nil if the option asks for nothing."
  @spec new([:raw | :stderr] | nil) :: t() | nil
  def new(keep) when keep in [nil, []], do: nil

  def new(keep),
    do: %__MODULE__{stderr?: :stderr in keep, json: if(:raw in keep, do: [])}

  @doc "Adds bytes of the JSON lines that the CLI wrote, cut anywhere."
  @spec add(t() | nil, binary()) :: t() | nil
  def add(nil, _bytes), do: nil
  def add(%{json: nil} = extras, _bytes), do: extras
  def add(%{cut?: true} = extras, _bytes), do: extras

  def add(extras, bytes) do
    left = @most - extras.bytes

    if byte_size(bytes) <= left,
      do: put(extras, bytes),
      else: %{put(extras, binary_part(bytes, 0, left)) | cut?: true}
  end

  defp put(extras, bytes),
    do: %{extras | json: [extras.json, bytes], bytes: extras.bytes + byte_size(bytes)}

  @doc "Returns the last elements of an attempt."
  @spec elements(t() | nil, (... -> String.t())) :: [{:extras, map()}]
  def elements(nil, _stderr), do: []

  def elements(extras, stderr) do
    raw = if extras.json, do: %{json: lines(extras), json_truncated?: extras.cut?}, else: %{}
    [{:extras, if(extras.stderr?, do: Map.put(raw, :stderr, stderr.()), else: raw)}]
  end

  defp lines(%{json: json, cut?: cut?}) do
    lines = json |> IO.iodata_to_binary() |> String.split(["\r\n", "\n"])
    lines = if cut?, do: Enum.drop(lines, -1), else: lines
    Enum.reject(lines, &(&1 == ""))
  end
end
