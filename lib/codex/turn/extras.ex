defmodule Codex.Turn.Extras do
  @moduledoc false
  # The raw output of a turn, for the options `keep` and `tee`. A value in the state of a transport.
  # What is kept becomes the last element of an attempt, `{:extras, map}`; a tee is written while
  # the turn runs.

  alias Codex.Turn.Tee

  # Bytes of JSON that are kept, from the beginning of the turn.
  @most 8 * 1024 * 1024

  defstruct stderr?: false, json: nil, bytes: 0, cut?: false, tee: nil

  @type t :: %__MODULE__{
          stderr?: boolean(),
          json: [iodata()] | nil,
          bytes: non_neg_integer(),
          cut?: boolean(),
          tee: Tee.t() | nil
        }

  @doc """
  Returns empty extras, or nil if the options ask for nothing. `secrets` returns those that the
  transport has added to the job's.
  """
  @spec new([:raw | :stderr] | nil, Tee.t() | nil, (... -> [String.t()])) :: t() | nil
  def new(keep, nil, _secrets) when keep in [nil, []], do: nil

  def new(keep, tee, secrets) do
    :ok = Tee.secrets(tee, secrets)
    keep = keep || []
    %__MODULE__{stderr?: :stderr in keep, json: if(:raw in keep, do: []), tee: tee}
  end

  @doc "Adds bytes of the JSON lines that the CLI wrote, cut anywhere."
  @spec add(t() | nil, binary()) :: t() | nil
  def add(nil, _bytes), do: nil

  def add(extras, bytes) do
    :ok = Tee.bytes(extras.tee, :raw, bytes)
    keep(extras, bytes)
  end

  @doc "Adds a notification of an app-server, encoded again: its connection has decoded it."
  @spec notification(t() | nil, String.t(), map()) :: t() | nil
  def notification(nil, _method, _params), do: nil

  def notification(extras, method, params) do
    :ok = Tee.terms(extras.tee, :raw, [{:notification, method, params}])

    with %{json: json} when json != nil <- extras,
         {:ok, line} <- Codex.JSON.encode(%{"method" => method, "params" => params}) do
      keep(extras, line <> "\n")
    else
      _nothing_to_keep -> extras
    end
  end

  @doc "Adds bytes of stderr, cut anywhere."
  @spec stderr(t() | nil, binary()) :: :ok
  def stderr(nil, _bytes), do: :ok
  def stderr(extras, bytes), do: Tee.bytes(extras.tee, :stderr, bytes)

  @doc "Adds the stderr of a server, at the end of a turn."
  @spec server_stderr(t() | nil, (... -> String.t())) :: :ok
  def server_stderr(%{tee: tee}, stderr) when tee != nil do
    text = stderr.()
    if text == "", do: :ok, else: Tee.bytes(tee, :stderr, text <> "\n")
  end

  def server_stderr(_extras, _stderr), do: :ok

  defp keep(%{json: nil} = extras, _bytes), do: extras
  defp keep(%{cut?: true} = extras, _bytes), do: extras

  defp keep(extras, bytes) do
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
  def elements(%{json: nil, stderr?: false}, _stderr), do: []

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
