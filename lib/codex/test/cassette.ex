defmodule Codex.Test.Cassette do
  @moduledoc false
  # Recorded answers of a real model. A cassette is a file with a line of JSON for each request:
  # its fingerprint, the request without the parts that change from run to run, and the response.

  alias Codex.Error.Redact
  alias Codex.{HTTP, JSON}
  alias Codex.Test.Steps

  # Headers of one connection, and those that the recorder sets.
  @own ~w(host content-length connection accept-encoding transfer-encoding expect)
  @timeout_ms 600_000
  @most 64 * 1024 * 1024

  defstruct [:path, :entries, :used]

  @type t :: %__MODULE__{path: Path.t(), entries: [map()], used: :atomics.atomics_ref() | nil}

  ## Recording

  @doc "Returns the step that passes each request on, and adds its answer to the file."
  @spec recorder(Path.t(), String.t(), [{String.t(), String.t()}]) :: function()
  def recorder(path, upstream, headers) do
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, "")
    secrets = for {_name, value} <- headers, do: {"TOKEN", value}
    secrets = Redact.secrets(Enum.concat(System.get_env(), secrets))
    fn request -> record(request, path, String.trim_trailing(upstream, "/"), headers, secrets) end
  end

  defp record(%{body: %{} = body} = request, path, upstream, headers, secrets) do
    url = upstream <> String.replace_prefix(request.path, "/v1", "")
    names = for {name, _value} <- headers, do: String.downcase(name)
    passed = for {name, value} <- request.headers, name not in (@own ++ names), do: {name, value}
    options = [timeout_ms: @timeout_ms, max_body_bytes: @most]

    case HTTP.request(request.method, url, passed ++ headers, JSON.encode!(body), options) do
      {:ok, answer} ->
        entry = entry(body, answer) |> Redact.redact(secrets) |> shapes()
        # One write for a line: connections record at the same time.
        File.write!(path, [JSON.encode!(entry), "\n"], [:append])
        step(entry["response"])

      {:error, reason} ->
        # The reason may have the URL, which may have a password.
        Steps.http_error(502, "Codex.Test: no answer of the upstream: #{kind(reason)}")
    end
  end

  defp record(_compressed, _path, _upstream, _headers, _secrets),
    do: Steps.http_error(400, "Codex.Test records requests with JSON only")

  defp kind(reason) when is_atom(reason), do: "#{reason}"
  defp kind(reason) when is_tuple(reason), do: "#{inspect(elem(reason, 0))}"
  defp kind(_reason), do: "it failed"

  defp entry(body, answer) do
    request = normalize(body)
    type = with {_, type} <- List.keyfind(answer.headers, "content-type", 0), do: type

    %{
      "fingerprint" => fingerprint(request),
      "request" => request,
      "response" => %{"status" => answer.status, "type" => type, "body" => answer.body}
    }
  end

  defp shapes(text) when is_binary(text), do: Redact.shapes(text)
  defp shapes(list) when is_list(list), do: Enum.map(list, &shapes/1)
  defp shapes(%{} = map), do: Map.new(map, fn {key, value} -> {key, shapes(value)} end)
  defp shapes(other), do: other

  defp step(%{"status" => 200} = response),
    do: Steps.raw([response["body"]], headers: type(response))

  defp step(response), do: Steps.http_error(response["status"], response["body"], type(response))

  defp type(%{"type" => nil}), do: []
  defp type(%{"type" => type}), do: [{"content-type", type}]

  ## Replaying

  @doc "Reads a cassette. Raises `ArgumentError` for a file that cannot be read, or is none."
  @spec read!(Path.t()) :: t()
  def read!(path) do
    lines =
      case File.read(path) do
        {:ok, text} ->
          String.split(text, "\n", trim: true)

        {:error, reason} ->
          raise ArgumentError, "cannot read the cassette #{path}: #{:file.format_error(reason)}"
      end

    entries =
      for {line, n} <- Enum.with_index(lines, 1) do
        case JSON.decode(line) do
          {:ok, %{"fingerprint" => _, "request" => %{}, "response" => %{}} = entry} -> entry
          _other -> raise ArgumentError, "line #{n} of #{path} is no entry of a cassette"
        end
      end

    used = if entries != [], do: :atomics.new(length(entries), [])
    %__MODULE__{path: path, entries: entries, used: used}
  end

  @doc "Returns the step that answers each request from the cassette."
  @spec player(t()) :: function()
  def player(cassette), do: fn request -> play(request, cassette) end

  # Equal requests get their answers in the recorded order; each answer is given once.
  defp play(%{body: body}, cassette) do
    request = if is_map(body), do: normalize(body), else: %{}
    print = fingerprint(request)

    case Enum.find(
           unused(cassette),
           &(elem(&1, 0)["fingerprint"] == print and take?(&1, cassette))
         ) do
      {entry, _index} -> step(entry["response"])
      nil -> Steps.http_error(400, miss(request, cassette))
    end
  end

  defp take?({_entry, index}, cassette),
    do: :atomics.compare_exchange(cassette.used, index, 0, 1) == :ok

  defp unused(cassette) do
    for {entry, index} <- Enum.with_index(cassette.entries, 1),
        :atomics.get(cassette.used, index) == 0,
        do: {entry, index}
  end

  @doc "Raises if answers are left over."
  @spec check!(t()) :: :ok
  def check!(cassette) do
    case unused(cassette) do
      [] ->
        :ok

      left ->
        numbers = Enum.map_join(left, ", ", fn {_entry, index} -> "#{index}" end)

        raise "#{cassette.path}: #{length(left)} of #{length(cassette.entries)} recorded " <>
                "answers were not asked for (line #{numbers}): record the test again"
    end
  end

  defp miss(request, cassette) do
    new = lines(request)

    differences =
      for {entry, index} <- unused(cassette) do
        {index, List.myers_difference(lines(entry["request"]), new)}
      end

    case Enum.min_by(differences, fn {_index, diff} -> size(diff) end, fn -> nil end) do
      nil ->
        "Codex.Test: all answers of #{cassette.path} were given, and the CLI sent another request"

      {index, diff} ->
        "Codex.Test: #{cassette.path} has no answer to this request. The difference to the " <>
          "nearest one, line #{index} (- recorded, + sent):\n" <> words(diff)
    end
  end

  defp size(diff), do: Enum.sum(for {kind, lines} <- diff, kind != :eq, do: length(lines))

  defp words(diff) do
    for {kind, lines} <- diff, kind != :eq, line <- lines, into: "" do
      "#{if kind == :del, do: "-", else: "+"} #{line}\n"
    end
  end

  # A line for each leaf, with its path.
  defp lines(value, at \\ "")

  defp lines(%{} = map, at),
    do: map |> Enum.sort() |> Enum.flat_map(fn {key, value} -> lines(value, "#{at}.#{key}") end)

  defp lines(list, at) when is_list(list) do
    list |> Enum.with_index() |> Enum.flat_map(fn {value, i} -> lines(value, "#{at}[#{i}]") end)
  end

  defp lines(text, at) when is_binary(text),
    do: for(line <- String.split(text, "\n"), do: "#{at}: #{line}")

  defp lines(other, at), do: ["#{at}: #{inspect(other)}"]

  ## Fingerprints

  # The members that say what is asked. Instructions and tools change with the version of the CLI.
  @members ~w(model input text)
  @volatile ~w(id encrypted_content)

  @changing [
    {~r"/\S*?codex_test-[a-z2-7]+", "<dir>"},
    {~r/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/, "<uuid>"},
    {~r/\d{4}-\d\d-\d\d(T[\d:.]+Z?)?/, "<date>"},
    {~r/\bcall_\w+/, "<call>"},
    {~r/Chunk ID: \w+/, "Chunk ID: <id>"},
    {~r/Wall time: [\d.]+/, "Wall time: <n>"},
    {~r"<(timezone|shell)>[^<]*</", "<\\1></"}
  ]

  @doc "Returns the request without the parts that change from run to run."
  @spec normalize(map()) :: map()
  def normalize(body), do: body |> Map.take(@members) |> strip()

  defp strip(%{} = map) do
    for {key, value} <- map, key not in @volatile, into: %{}, do: {key, strip(value)}
  end

  defp strip(list) when is_list(list),
    do: for(value <- list, not instructions?(value), do: strip(value))

  defp strip(text) when is_binary(text) do
    Enum.reduce(@changing, text, fn {regex, put}, text -> Regex.replace(regex, text, put) end)
  end

  defp strip(other), do: other

  defp instructions?(%{"role" => role}), do: role in ["developer", "system"]
  defp instructions?(_other), do: false

  defp fingerprint(request) do
    :crypto.hash(:sha256, request |> lines() |> Enum.intersperse("\n"))
    |> Base.encode16(case: :lower)
    |> binary_part(0, 32)
  end
end
