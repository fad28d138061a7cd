defmodule Codex.Input do
  @moduledoc """
  The input of a turn: text, or a list of texts and blocks.

      Codex.Thread.run(thread, ["What is wrong here?", Codex.Input.local_image("screen.png")])

      {:ok, answer} = Codex.AppServer.skills_list(conn, cwds: ["/srv/app"])
      %{"data" => [%{"skills" => skills}]} = answer
      skill = Enum.find(skills, &(&1["name"] == "release"))
      Codex.Thread.run(thread, ["Cut 1.2.0", Codex.Input.skill(skill["name"], skill["path"])])

  Text and local images work on both transports. Other blocks need an app-server; on `codex exec`
  they return `{:error, {:unsupported_input, :exec}}`. All texts together may have 1_048_576
  characters, otherwise the error is `{:error, {:input_too_large, characters, limit}}`.
  """

  @most 1_048_576

  @typedoc "A block, as made by the functions of this module. Keys may also be strings."
  @type block :: %{required(:type) => atom(), optional(atom()) => term()}
  @type t :: String.t() | [String.t() | block() | map()]

  @doc """
  Makes a text block.

      iex> Codex.Input.text("Hi")
      %{type: :text, text: "Hi"}
  """
  @spec text(String.t()) :: block()
  def text(text) when is_binary(text), do: %{type: :text, text: text}

  @doc """
  Makes an image block with a URL that the provider reads; a `data:` URL works, too.

      iex> Codex.Input.image("https://example.com/a.png")
      %{type: :image, url: "https://example.com/a.png"}
  """
  @spec image(String.t()) :: block()
  def image(url) when is_binary(url), do: %{type: :image, url: url}

  @doc """
  Makes an image block with a file that the CLI reads. When the turn runs, a missing file is
  `{:error, {:image_not_found, path}}`, and a file of more than 64 MiB is
  `{:error, {:image_too_large, path, limit}}`.

  Over `Codex.AppServer.connect_remote/2`, the path names a file of the server's machine, and the
  SDK does not check it.

      iex> Codex.Input.local_image("/srv/a.png")
      %{type: :local_image, path: "/srv/a.png"}
  """
  @spec local_image(Path.t()) :: block()
  def local_image(path) when is_binary(path), do: %{type: :local_image, path: Path.expand(path)}

  @doc """
  Makes a skill block from the name and the path of its `SKILL.md`, exactly as
  `Codex.AppServer.skills_list/3` returns them (invalid skills are under `"errors"`). The server
  ignores unknown skills silently, so the SDK checks them: if a skill is missing, disabled or
  invalid, the turn does not start and returns `{:exec_failed, error}` of the kind
  `:invalid_request`.

      iex> Codex.Input.skill("release", "/srv/app/.codex/skills/release/SKILL.md")
      %{type: :skill, name: "release", path: "/srv/app/.codex/skills/release/SKILL.md"}
  """
  @spec skill(String.t(), Path.t()) :: block()
  def skill(name, path) when is_binary(name) and is_binary(path),
    do: %{type: :skill, name: name, path: path}

  @doc """
  Makes a mention of an app or a plugin in the text, from its name and a path such as `app://id`.

      iex> Codex.Input.mention("calendar", "app://calendar")
      %{type: :mention, name: "calendar", path: "app://calendar"}
  """
  @spec mention(String.t(), String.t()) :: block()
  def mention(name, path) when is_binary(name) and is_binary(path),
    do: %{type: :mention, name: name, path: path}

  @doc false
  # Checks the limit of the CLI. Characters are code points; the text is UTF-8.
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
