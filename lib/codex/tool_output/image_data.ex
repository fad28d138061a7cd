defmodule Codex.ToolOutput.ImageData do
  @moduledoc false
  # Images as data URLs. The type is that of the first bytes, else that of the file's name.

  alias Codex.FileSystem

  @extensions %{
    ".png" => "image/png",
    ".jpg" => "image/jpeg",
    ".jpeg" => "image/jpeg",
    ".gif" => "image/gif",
    ".webp" => "image/webp",
    ".bmp" => "image/bmp",
    ".tif" => "image/tiff",
    ".tiff" => "image/tiff",
    ".ico" => "image/x-icon"
  }

  @doc "Reads a file of at most 16 MiB as a data URL."
  @spec read(Path.t()) ::
          {:ok, String.t()}
          | {:error,
             {:invalid_image_path, Codex.Reason.file()} | {:unsupported_image_type, String.t()}}
  def read(path) do
    extension = path |> Path.extname() |> String.downcase()

    case FileSystem.read(path) do
      {:ok, bytes} ->
        typed(bytes, type(bytes) || @extensions[extension], extension)

      {:error, reason} ->
        {:error, {:invalid_image_path, reason}}
    end
  end

  defp typed(_bytes, nil, extension), do: {:error, {:unsupported_image_type, extension}}
  defp typed(bytes, type, _extension), do: {:ok, url(bytes, type)}

  @doc "Returns the data URL of bytes; without a type, that of their first bytes."
  @spec url(binary(), String.t() | nil) :: String.t()
  def url(bytes, type \\ nil),
    do: "data:#{type || type(bytes) || "image/png"};base64," <> Base.encode64(bytes)

  @doc "Returns the data URL of base64."
  @spec encoded(String.t(), String.t() | nil) :: String.t()
  def encoded(base64, type) do
    start = binary_part(base64, 0, min(byte_size(base64), 16))

    found =
      case Base.decode64(start) do
        {:ok, bytes} -> type(bytes)
        :error -> nil
      end

    "data:#{type || found || "image/png"};base64," <> base64
  end

  defp type(<<0x89, "PNG", _::binary>>), do: "image/png"
  defp type(<<0xFF, 0xD8, 0xFF, _::binary>>), do: "image/jpeg"
  defp type("GIF8" <> _), do: "image/gif"
  defp type(<<"RIFF", _::binary-size(4), "WEBP", _::binary>>), do: "image/webp"
  defp type("BM" <> _), do: "image/bmp"
  defp type(<<"II", 42, 0, _::binary>>), do: "image/tiff"
  defp type(<<"MM", 0, 42, _::binary>>), do: "image/tiff"
  defp type(<<0, 0, 1, 0, _::binary>>), do: "image/x-icon"
  defp type(_other), do: nil
end
