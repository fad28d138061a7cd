defmodule Codex.Exec.Images do
  @moduledoc false
  # Images of the file system as input, on either lane.

  alias Codex.FileSystem

  # The CLI reads an image as a whole and sends it as text: an endless file would fill its memory.
  @max_bytes 64 * 1024 * 1024

  @doc """
  Their absolute paths. The CLI tells the model, not the user, that it could not read an image (0.169): what is no file is
  refused here.

      iex> Codex.Exec.Images.existing(["/no/such.png"])
      {:error, {:image_not_found, "/no/such.png"}}
  """
  @spec existing([Path.t()]) ::
          {:ok, [Path.t()]}
          | {:error, {:image_not_found, Path.t()} | {:image_too_large, Path.t(), pos_integer()}}
  def existing(images) do
    images = Enum.map(images, &Path.expand/1)

    images
    |> Enum.zip(FileSystem.stat_all(images))
    |> Enum.find_value({:ok, images}, fn
      {path, {:ok, %{kind: :regular, size: size}}} when size > @max_bytes ->
        {:error, {:image_too_large, path, @max_bytes}}

      {_path, {:ok, %{kind: :regular}}} ->
        nil

      {path, _no_file} ->
        {:error, {:image_not_found, path}}
    end)
  end
end
