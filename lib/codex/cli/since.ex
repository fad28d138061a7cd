defmodule Codex.CLI.Since do
  @moduledoc false
  # Knows which requests, parameters and flags an older CLI lacks, from `priv/cli/since.exs`, and
  # finds those that a request uses. The CLI itself would ignore an unknown parameter.

  @path Path.expand("../../../priv/cli/since.exs", __DIR__)
  @external_resource @path
  @versions @path |> File.read!() |> Code.string_to_quoted!()

  @names for {version, names} <- @versions, name <- names, do: {name, version}
  @newest @versions |> Enum.map(&elem(&1, 0)) |> Enum.max(Version)

  # `request.parameter.member=word` as `{request, path, version, name}`.
  @requests (for {name, version} <- @names, not String.starts_with?(name, "--") do
               [request | path] = String.split(name, ".")
               {request, Enum.map(path, &String.split(&1, "=")), version, name}
             end)

  @first Map.new(@names)

  @typedoc "What a CLI lacks; nil if it lacks nothing."
  @type lacks :: nil | %{found: String.t(), requests: %{String.t() => [tuple()]}}

  @doc """
  Returns what the app-server of a version lacks. An unknown version (nil) lacks nothing.

      iex> Codex.CLI.Since.lacks("999.0.0")
      nil
  """
  @spec lacks(String.t() | nil) :: lacks()
  def lacks(nil), do: nil

  def lacks(found) do
    if older?(found, @newest) do
      rows = for {_, _, version, _} = row <- @requests, older?(found, version), do: row
      %{found: found, requests: Enum.group_by(rows, &elem(&1, 0), &Tuple.delete_at(&1, 0))}
    end
  end

  defp older?(found, version), do: Version.compare(found, version) == :lt

  @doc """
  Checks the parameters of a request, as they are sent.

      iex> lacks = Codex.CLI.Since.lacks("0.160.1")
      iex> Codex.CLI.Since.check(lacks, "thread/list", %{"limit" => 1})
      :ok
      iex> Codex.CLI.Since.check(lacks, "thread/list", %{"excludedThreadIds" => ["t"]})
      {:error, {:cli_unsupported, ["thread/list.excludedThreadIds"], "0.163.0", "0.160.1"}}
      iex> Codex.CLI.Since.check(lacks, "thread/items/read", %{})
      {:error, {:cli_unsupported, ["thread/items/read"], "0.163.0", "0.160.1"}}
  """
  @spec check(lacks(), String.t(), map() | nil) :: :ok | {:error, Codex.Reason.unsupported_cli()}
  def check(nil, _method, _params), do: :ok

  def check(%{found: found, requests: requests}, method, params) do
    used =
      for {path, version, name} <- requests[method] || [],
          used?(path, params),
          do: {name, version}

    check_parts(used, found)
  end

  defp used?(path, value) when path == [], do: value != nil
  defp used?(path, values) when is_list(values), do: Enum.any?(values, &used?(path, &1))

  defp used?([["*"] | path], %{} = map), do: map |> Map.values() |> Enum.any?(&used?(path, &1))
  defp used?([[key] | path], %{} = map), do: used?(path, map[key])
  defp used?([[key, word]], %{} = map), do: word in List.wrap(map[key])
  defp used?(_path, _value), do: false

  @doc """
  Returns the first version with a request, a parameter or a flag, by its name in the file; nil if
  all versions of the range have it.

      iex> for name <- ["--worktree", "thread/items/read", "thread/list.limit"],
      ...>   do: Codex.CLI.Since.first(name)
      ["0.154.0", "0.163.0", nil]
  """
  @spec first(String.t()) :: String.t() | nil
  def first(name), do: @first[name]

  @doc "Returns all names of the file, with their versions."
  @spec names() :: [{String.t(), String.t()}]
  def names, do: @names

  @doc "Checks the versions that the parts of a request need: pairs of a name and a version."
  @spec check_parts([{String.t(), String.t()}], found :: String.t()) ::
          :ok | {:error, Codex.Reason.unsupported_cli()}
  def check_parts(parts, found) do
    case for {name, version} <- parts, older?(found, version), do: {name, version} do
      [] ->
        :ok

      missing ->
        {names, versions} = Enum.unzip(missing)
        {:error, {:cli_unsupported, names, Enum.max(versions, Version), found}}
    end
  end
end
