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

  alias Codex.FileSystem

  @most 1_048_576

  # The CLI reads an image as a whole and sends it as text: an endless file would fill its memory.
  @most_image_bytes 64 * 1024 * 1024

  @typedoc "A block, as made by the functions of this module. Keys may also be strings."
  @type block :: %{required(:type) => atom(), optional(atom()) => term()}
  @typedoc "Text, or a list of texts and blocks."
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

  @typedoc "An invalid input. See `t:Codex.Reason.input/0`."
  @type reason :: Codex.Reason.input()

  @doc false
  # Checks an input and returns its blocks as the app-server has them.
  @spec blocks(term()) :: {:ok, [map() | term()]} | {:error, reason()}
  def blocks(input) when (is_binary(input) and input != "") or (is_list(input) and input != []) do
    blocks = wire(input)

    cond do
      List.improper?(blocks) -> {:error, {:invalid_input, input}}
      Enum.any?(blocks, &not_utf8?/1) -> {:error, {:invalid_input, :not_utf8}}
      error = too_large(for %{"text" => text} <- blocks, is_binary(text), do: text) -> error
      true -> {:ok, blocks}
    end
  end

  def blocks(other), do: {:error, {:invalid_input, other}}

  defp not_utf8?(%{"text" => text}) when is_binary(text), do: not String.valid?(text)
  defp not_utf8?(_block), do: false

  @doc false
  # The blocks of an input as the app-server has them. Other terms are returned as they are.
  @spec wire(term()) :: term()
  def wire(text) when is_binary(text), do: [block(text)]

  def wire(blocks) when is_list(blocks),
    do: if(List.improper?(blocks), do: blocks, else: Enum.map(blocks, &block/1))

  def wire(other), do: other

  defp block(text) when is_binary(text), do: %{"type" => "text", "text" => text}

  defp block(%{} = block) when not is_struct(block) do
    block = Map.new(block, fn {key, value} -> {key(key), value} end)
    Map.put(block, "type", camel(block["type"] || "text"))
  end

  defp block(other), do: other

  defp key(key) when is_atom(key) and key != nil, do: key |> Atom.to_string() |> key()
  defp key(key) when key in ~w(image_url file_id), do: camel(key)
  defp key(key), do: key

  @doc false
  # `workspace-write` and `workspace_write` are `workspaceWrite`.
  @spec camel(term()) :: term()
  def camel(word) when is_atom(word) and word != nil, do: word |> Atom.to_string() |> camel()

  def camel(word) when is_binary(word) and byte_size(word) <= 64 do
    [first | rest] = String.split(word, ["_", "-"])
    Enum.join([first | Enum.map(rest, &upcase/1)])
  end

  def camel(other), do: other

  defp upcase(<<first, rest::binary>>) when first in ?a..?z, do: <<first - 32, rest::binary>>
  defp upcase(other), do: other

  @doc false
  # The absolute paths of images. The CLI reports an image that it cannot read to the model
  # and not to the user, so a path without a file is an error here.
  @spec existing_images([Path.t()]) :: {:ok, [Path.t()]} | {:error, reason()}
  def existing_images([]), do: {:ok, []}

  def existing_images(images) do
    images = Enum.map(images, &Path.expand/1)

    images
    |> Enum.zip(FileSystem.stat_all(images))
    |> Enum.find_value({:ok, images}, fn
      {path, {:ok, %{kind: :regular, size: size}}} when size > @most_image_bytes ->
        {:error, {:image_too_large, path, @most_image_bytes}}

      {_path, {:ok, %{kind: :regular}}} ->
        nil

      {path, _no_file} ->
        {:error, {:image_not_found, path}}
    end)
  end

  # Characters are code points; the texts are UTF-8.
  defp too_large(texts) do
    if texts |> Enum.map(&byte_size/1) |> Enum.sum() > @most do
      n = texts |> Enum.map(&characters(&1, 0)) |> Enum.sum()
      if n > @most, do: {:error, {:input_too_large, n, @most}}
    end
  end

  defp characters(<<_::utf8, rest::binary>>, n), do: characters(rest, n + 1)
  defp characters(<<>>, n), do: n
end
