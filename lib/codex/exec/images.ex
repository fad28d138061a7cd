defmodule Codex.Exec.Images do
  @moduledoc false
  # Images of the file system as input, on either lane.

  @doc """
  Their absolute paths. The CLI tells the model, not the user, that it could not read an image (0.169): what is no file is
  refused here.

      iex> Codex.Exec.Images.existing(["/no/such.png"])
      {:error, {:image_not_found, "/no/such.png"}}
  """
  @spec existing([Path.t()]) :: {:ok, [Path.t()]} | {:error, {:image_not_found, Path.t()}}
  def existing(images) do
    images = Enum.map(images, &Path.expand/1)

    case Enum.find(images, &(not File.regular?(&1))) do
      nil -> {:ok, images}
      path -> {:error, {:image_not_found, path}}
    end
  end
end
