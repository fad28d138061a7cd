defmodule Codex.AppServer.Skills do
  @moduledoc false
  # Checks the skills in the input of a turn. The server takes a skill by its path, exactly as in
  # `skills/list`, and ignores unknown skills silently.

  @doc "Returns the paths of the skills in an input in wire form."
  @spec paths([map()]) :: [String.t()]
  def paths(input), do: for(%{"type" => "skill", "path" => path} <- input, do: path)

  @doc """
  Returns the problem of the first skill that the server would ignore, or nil. `listed` is the
  answer to `skills/list`.

      iex> skills = [
      ...>   %{"path" => "/srv/a", "enabled" => true},
      ...>   %{"path" => "/srv/c", "enabled" => false}
      ...> ]
      iex> errors = [%{"path" => "/srv/b", "message" => "no name"}]
      iex> listed = %{"data" => [%{"cwd" => "/srv", "errors" => errors, "skills" => skills}]}
      iex> paths = ~w(/srv/a /srv/b /srv/c /srv/d)
      iex> for path <- paths, do: Codex.AppServer.Skills.missing([path], listed)
      [
        nil,
        "the skill /srv/b cannot be used: no name",
        "the skill /srv/c is disabled",
        "there is no skill /srv/d: see Codex.AppServer.skills_list/3"
      ]
  """
  @spec missing([String.t()], map()) :: String.t() | nil
  def missing(paths, listed) do
    entries = for %{} = entry <- List.wrap(listed["data"]), do: entry

    skills =
      for entry <- entries, %{"path" => path} = skill <- list(entry["skills"]), do: {path, skill}

    errors =
      for entry <- entries, %{"path" => path} = error <- list(entry["errors"]), do: {path, error}

    Enum.find_value(paths, &wrong(&1, Map.new(skills)[&1], Map.new(errors)[&1]))
  end

  defp list(list), do: if(is_list(list), do: list, else: [])

  defp wrong(_path, %{"enabled" => true}, _error), do: nil
  defp wrong(path, %{}, _error), do: "the skill #{path} is disabled"

  defp wrong(path, nil, %{"message" => message}),
    do: "the skill #{path} cannot be used: #{message}"

  defp wrong(path, nil, _none),
    do: "there is no skill #{path}: see Codex.AppServer.skills_list/3"
end
