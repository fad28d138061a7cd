defmodule Codex.Input do
  @moduledoc """
  What a user says in a turn: text, or a list of text and blocks.

      Codex.Thread.run(thread, ["What is wrong here?", Codex.Input.local_image("screen.png")])

      {:ok, %{"data" => [%{"skills" => skills}]}} = Codex.AppServer.skills_list(conn, cwds: ["/srv/app"])
      skill = Enum.find(skills, &(&1["name"] == "release"))
      Codex.Thread.run(thread, ["Cut 1.2.0", Codex.Input.skill(skill["name"], skill["path"])])

  Text and local images work on both lanes, the rest over an app-server (else `{:error, {:unsupported_input, :exec}}`). All text together may
  have 1_048_576 characters (CLI 0.169), else it is `{:error, {:input_too_large, characters, limit}}`.
  """

  @most 1_048_576

  @typedoc "A block, as these functions make it. Keys may be strings, too."
  @type block :: %{required(:type) => atom(), optional(atom()) => term()}
  @type t :: String.t() | [String.t() | block() | map()]

  @doc """
  Text.

      iex> Codex.Input.text("Hi")
      %{type: :text, text: "Hi"}
  """
  @spec text(String.t()) :: block()
  def text(text) when is_binary(text), do: %{type: :text, text: text}

  @doc """
  A picture by its URL, which the provider reads; also a `data:` URL.

      iex> Codex.Input.image("https://example.com/a.png")
      %{type: :image, url: "https://example.com/a.png"}
  """
  @spec image(String.t()) :: block()
  def image(url) when is_binary(url), do: %{type: :image, url: url}

  @doc """
  A picture in a file that the CLI reads. When the turn runs, a missing file is
  `{:error, {:image_not_found, path}}`, and a file of more than 64 MiB is
  `{:error, {:image_too_large, path, limit}}`.

  Over `Codex.AppServer.connect_remote/2`, the path names a file of the server's machine, and
  nothing is looked up here.

      iex> Codex.Input.local_image("/srv/a.png")
      %{type: :local_image, path: "/srv/a.png"}
  """
  @spec local_image(Path.t()) :: block()
  def local_image(path) when is_binary(path), do: %{type: :local_image, path: Path.expand(path)}

  @doc """
  A skill: its name, and the path of its `SKILL.md`, exactly as `Codex.AppServer.skills_list/3` has them; under `"errors"` it tells what is wrong
  with others. The server would leave out what it does not know without a word (0.169), so the turn ends before it begins, with
  `{:exec_failed, error}` of the kind `:invalid_request`, for a skill that is not there, is disabled, or cannot be used.

      iex> Codex.Input.skill("release", "/srv/app/.codex/skills/release/SKILL.md")
      %{type: :skill, name: "release", path: "/srv/app/.codex/skills/release/SKILL.md"}
  """
  @spec skill(String.t(), Path.t()) :: block()
  def skill(name, path) when is_binary(name) and is_binary(path),
    do: %{type: :skill, name: name, path: path}

  @doc """
  Something that the text mentions, as an app or a plugin: its name, and a path as `app://id`.

      iex> Codex.Input.mention("calendar", "app://calendar")
      %{type: :mention, name: "calendar", path: "app://calendar"}
  """
  @spec mention(String.t(), String.t()) :: block()
  def mention(name, path) when is_binary(name) and is_binary(path),
    do: %{type: :mention, name: name, path: path}

  @doc false
  # Whether the CLI takes so much text. Characters are code points; the text is UTF-8.
  @spec fits([String.t()]) :: :ok | {:error, {:input_too_large, pos_integer(), pos_integer()}}
  def fits(texts) do
    if texts |> Enum.map(&byte_size/1) |> Enum.sum() <= @most do
      :ok
    else
      case texts |> Enum.map(&characters(&1, 0)) |> Enum.sum() do
        n when n > @most -> {:error, {:input_too_large, n, @most}}
        _fewer -> :ok
      end
    end
  end

  defp characters(<<_::utf8, rest::binary>>, n), do: characters(rest, n + 1)
  defp characters(<<>>, n), do: n
end
