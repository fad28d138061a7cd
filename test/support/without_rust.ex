defmodule Codex.WithoutRust do
  @moduledoc "The programs of this machine, without Rust's."

  @rust ~w(cargo rustc rustup)

  @doc """
  Returns a PATH without Rust. A folder with other programs beside Rust's is replaced by a folder
  of links, made in `dir`.
  """
  @spec path(Path.t()) :: String.t()
  def path(dir) do
    folders = System.get_env("PATH") |> String.split(":", trim: true) |> Enum.uniq()

    for {folder, n} <- Enum.with_index(folders) do
      if Enum.any?(@rust, &File.exists?(Path.join(folder, &1))),
        do: links(folder, Path.join(dir, "path#{n}")),
        else: folder
    end
    |> Enum.join(":")
  end

  defp links(folder, links) do
    unless File.dir?(links) do
      File.mkdir_p!(links)

      for name <- File.ls!(folder), name not in @rust do
        File.ln_s!(Path.join(folder, name), Path.join(links, name))
      end
    end

    links
  end
end
