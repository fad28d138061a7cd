defmodule Codex.Sessions.Images do
  @moduledoc false
  # Images of prompts. Their bytes stand in URLs with data, in the prompt itself or in the message
  # of the model's interface before it.

  @images ~w(image local_image)

  @doc "Returns the URLs of the images of a message of the model's interface."
  @spec urls(map()) :: [String.t()]
  def urls(%{"role" => "user", "content" => content}) when is_list(content),
    do: for(%{"type" => "input_image", "image_url" => url} <- content, is_binary(url), do: url)

  def urls(_other), do: []

  @doc """
  Returns the content of a prompt with its images as `images` wants them, and the URLs that are
  left. With `:skip`, no part has data; with `:bytes`, images have `"bytes"`. Both have
  `"media_type"` if it is known.

      iex> part = %{"type" => "image", "image_url" => "data:image/png;base64,aGk="}
      iex> Codex.Sessions.Images.fill([part], [], :skip)
      {[%{"type" => "image", "media_type" => "image/png"}], []}
      iex> Codex.Sessions.Images.fill([%{"type" => "local_image"}], [part["image_url"]], :bytes)
      {[%{"type" => "local_image", "media_type" => "image/png", "bytes" => "hi"}], []}
  """
  @spec fill(term(), [String.t()], :skip | :bytes) :: {term(), [String.t()]}
  def fill(content, urls, images) when is_list(content) do
    Enum.map_reduce(content, urls, fn
      %{"type" => type} = part, urls when type in @images -> image(part, urls, images)
      part, urls -> {part, urls}
    end)
  end

  def fill(content, urls, _images), do: {content, urls}

  defp image(%{"image_url" => "data:" <> _ = url} = part, urls, images),
    do: {part |> Map.delete("image_url") |> with_data(url, images), Enum.drop(urls, 1)}

  defp image(part, [url | urls], images), do: {with_data(part, url, images), urls}
  defp image(part, [], _images), do: {part, []}

  defp with_data(part, "data:" <> rest, images) do
    case :binary.split(rest, ";base64,") do
      [type, data] -> part |> Map.put("media_type", type) |> with_bytes(data, images)
      _no_data -> part
    end
  end

  defp with_data(part, _url, _images), do: part

  defp with_bytes(part, _data, :skip), do: part

  defp with_bytes(part, data, :bytes) do
    case Base.decode64(data) do
      {:ok, bytes} -> Map.put(part, "bytes", bytes)
      :error -> part
    end
  end
end
