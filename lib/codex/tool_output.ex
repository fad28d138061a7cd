defmodule Codex.ToolOutput do
  @moduledoc """
  Outputs of host tools with texts and images.

      def invoke(%{"number" => number}, _context) do
        with {:ok, path} <- MyApp.Charts.draw(number),
             %Codex.ToolOutput.Image{} = chart <- Codex.ToolOutput.image(path: path),
             do: {:ok, [Codex.ToolOutput.text("sales of \#{number}"), chart]}
      end

  A model takes images as data URLs only. `image/1` makes one of a file or of bytes, and refuses
  other URLs. Files (`file/1`) reach the model as JSON.
  """

  alias Codex.Files.Attachment
  alias Codex.JSON
  alias Codex.Options.Schema
  alias Codex.ToolOutput.ImageData

  defmodule Text do
    @moduledoc "A text, as an output of a host tool."
    @enforce_keys [:text]
    defstruct [:text]

    @typedoc "A text for the model."
    @type t :: %__MODULE__{text: String.t()}
  end

  defmodule Image do
    @moduledoc """
    An image, as an output of a host tool.

    The model sees `url` if it is a data URL, else `data`: base64 with the type `mime_type` (nil:
    found in the data). `detail` and `file_id` do not reach the model.
    """
    defstruct [:url, :detail, :file_id, :data, :mime_type]

    @typedoc "An image: a data URL, or base64 and its type."
    @type t :: %__MODULE__{
            url: String.t() | nil,
            detail: String.t() | nil,
            file_id: String.t() | nil,
            data: String.t() | nil,
            mime_type: String.t() | nil
          }
  end

  defmodule FileContent do
    @moduledoc "A file, as an output of a host tool. The model gets its fields as JSON."
    defstruct [:file_id, :data, :url, :filename, :mime_type]

    @typedoc "A file: `data` is base64."
    @type t :: %__MODULE__{
            file_id: String.t() | nil,
            data: String.t() | nil,
            url: String.t() | nil,
            filename: String.t() | nil,
            mime_type: String.t() | nil
          }
  end

  @typedoc "A part of the output in the form for the model. The image is a data URL."
  @type item :: %{optional(String.t()) => String.t()}

  @typedoc """
  Why there is no image: the URL is no data URL, the file was not read, or neither its content nor
  its name is that of an image.
  """
  @type image_reason ::
          {:remote_image, String.t()}
          | {:invalid_image_path, Codex.Reason.file()}
          | {:unsupported_image_type, String.t()}

  @doc """
  Makes a text.

      iex> Codex.ToolOutput.text("hello")
      %Codex.ToolOutput.Text{text: "hello"}
  """
  @spec text(String.t()) :: Text.t()
  def text(text) when is_binary(text), do: %Text{text: text}

  @doc """
  Makes an image. The attributes are one of these, as a keyword list or a map:

    * `:path` - a file of at most 16 MiB. Blocks until it is read
    * `:bytes` - the content of such a file
    * `:data` - the same in base64
    * `:url` - a data URL

  and if wanted `:mime_type`, `:detail` and `:file_id`. Returns the image, or an error with the
  reason `t:image_reason/0`. Raises `ArgumentError` for other attributes.

      iex> image = Codex.ToolOutput.image(bytes: "GIF89a", detail: "low")
      iex> {image.url, image.detail}
      {"data:image/gif;base64,R0lGODlh", "low"}
      iex> Codex.ToolOutput.image(url: "https://example.com/a.png")
      {:error, {:remote_image, "https://example.com/a.png"}}
  """
  @spec image(keyword() | map()) :: Image.t() | {:error, image_reason()}
  def image(attrs) do
    attrs = attributes(attrs, [:path, :bytes, :data, :url, :mime_type, :detail, :file_id])
    {source, attrs} = Map.split(attrs, [:path, :bytes])
    image = struct!(Image, attrs)

    case source do
      %{path: path} -> with {:ok, url} <- ImageData.read(path), do: %{image | url: url}
      %{bytes: bytes} -> %{image | url: ImageData.url(bytes, image.mime_type)}
      %{} -> with {:ok, _remote} <- remote(image.url), do: image
    end
  end

  defp remote(nil), do: {:ok, nil}
  defp remote("data:" <> _ = url), do: {:ok, url}
  defp remote(url), do: {:error, {:remote_image, url}}

  @doc """
  Makes a file. The attributes are `:data` (base64), `:filename`, `:mime_type`, `:url` and
  `:file_id`. Raises `ArgumentError` for others.
  """
  @spec file(keyword() | map()) :: FileContent.t()
  def file(attrs),
    do: struct!(FileContent, attributes(attrs, Map.keys(%FileContent{}) -- [:__struct__]))

  defp attributes(attrs, known) do
    for {key, value} <- Schema.pairs!(attrs), value != nil, into: %{} do
      name = Enum.find(known, &(&1 == key or Atom.to_string(&1) == key))
      name || raise ArgumentError, "unknown attribute #{inspect(key)}; expected #{inspect(known)}"
      {name, value}
    end
  end

  @doc """
  Returns an output as maps in the form of the Responses API: `input_text`, `input_image` and
  `input_file`. Lists are flattened, without duplicates. Other maps get string keys. A
  `Codex.Files.Attachment` is read, and becomes an `input_file`.

      iex> Codex.ToolOutput.normalize([Codex.ToolOutput.text("a"), [Codex.ToolOutput.text("a")]])
      [%{"type" => "input_text", "text" => "a"}]
  """
  @spec normalize(term()) :: term()
  def normalize(list) when is_list(list),
    do: list |> List.flatten() |> Enum.map(&normalize/1) |> Enum.uniq_by(&identity/1)

  def normalize(%Text{text: text}), do: %{"type" => "input_text", "text" => text}

  def normalize(%Image{} = image) do
    fields = %{"detail" => image.detail || "auto", "data" => image.data}
    fields = Map.merge(fields, %{"url" => image.url, "file_id" => image.file_id})
    %{"type" => "input_image", "image_url" => set(fields)}
  end

  def normalize(%FileContent{} = file) do
    fields = %{
      "file_id" => file.file_id,
      "data" => file.data,
      "file_url" => file.url,
      "filename" => file.filename,
      "mime_type" => file.mime_type
    }

    %{"type" => "input_file", "file_data" => set(fields)}
  end

  # Without data if the copy was removed.
  def normalize(%Attachment{} = attachment) do
    case Codex.FileSystem.read(attachment.path) do
      {:ok, bytes} ->
        fields = %{"filename" => attachment.name, "data" => Base.encode64(bytes)}
        %{"type" => "input_file", "file_data" => Map.put(fields, "file_id", attachment.id)}

      {:error, _reason} ->
        %{
          "type" => "input_file",
          "file_data" => %{"file_id" => attachment.id, "filename" => attachment.name}
        }
    end
  end

  def normalize(%_{} = struct), do: struct |> Map.from_struct() |> normalize()
  def normalize(%{} = map), do: Map.new(map, fn {key, value} -> {key(key), inside(value)} end)
  def normalize(other), do: other

  defp inside(value) when is_list(value), do: Enum.map(value, &inside/1)
  defp inside(value) when is_map(value), do: normalize(value)
  defp inside(value), do: value

  defp key(key) when is_binary(key), do: key
  defp key(key) when is_atom(key) or is_number(key), do: to_string(key)
  defp key(key), do: inspect(key)

  defp set(fields), do: for({key, value} <- fields, value != nil, into: %{}, do: {key, value})

  defp identity(%{"type" => "input_image", "image_url" => %{} = image}),
    do: {:image, image["file_id"] || image["url"] || image["data"]}

  defp identity(%{"type" => "input_file", "file_data" => %{} = file}),
    do: {:file, file["file_id"] || file["file_url"] || file["data"] || file["filename"]}

  defp identity(other), do: other

  @doc false
  # The output in the form for the model: texts and images. A list of texts and images becomes
  # several items; everything else is one text, as JSON unless it is a string.
  @spec content(term()) ::
          {:ok, [item()]} | {:error, {:remote_image, String.t()} | JSON.encode_error() | term()}
  def content({:error, reason}), do: {:error, reason}

  def content([_ | _] = list) do
    flat = if List.improper?(list), do: list, else: List.flatten(list)

    if not List.improper?(flat) and Enum.any?(flat, &part?/1) and
         Enum.all?(flat, &(part?(&1) or is_binary(&1))),
       do: items(flat, []),
       else: json(list)
  end

  def content(text) when is_binary(text), do: {:ok, [text_item(text)]}
  def content(output), do: if(part?(output), do: items([output], []), else: json(output))

  defp part?(%Text{}), do: true
  defp part?(%Image{}), do: true
  defp part?(%{"type" => "input_text", "text" => text}), do: is_binary(text)
  defp part?(%{"type" => "input_image", "image_url" => %{"url" => url}}), do: is_binary(url)
  defp part?(%{"type" => "input_image", "image_url" => url}), do: is_binary(url)
  defp part?(_other), do: false

  defp items([], items), do: {:ok, Enum.reverse(items)}

  defp items([part | rest], items) do
    with {:ok, item} <- item(part), do: items(rest, [item | items])
  end

  defp item(text) when is_binary(text), do: {:ok, text_item(text)}
  defp item(%Text{text: text}), do: {:ok, text_item(text)}
  defp item(%{"text" => text}), do: {:ok, text_item(text)}
  defp item(%{"image_url" => %{"url" => url}}), do: image_item(url)
  defp item(%{"image_url" => url}), do: image_item(url)
  defp item(%Image{url: url}) when is_binary(url), do: image_item(url)

  defp item(%Image{data: data, mime_type: type}) when is_binary(data),
    do: image_item(ImageData.encoded(data, type))

  defp item(%Image{} = image), do: with({:ok, [item]} <- json(normalize(image)), do: {:ok, item})

  defp image_item(url) do
    with {:ok, url} <- remote(url), do: {:ok, %{"type" => "input_image", "image_url" => url}}
  end

  defp text_item(text), do: %{"type" => "input_text", "text" => Codex.Text.utf8(text)}

  defp json(%FileContent{} = file), do: json(normalize(file))
  defp json(%Attachment{} = attachment), do: json(normalize(attachment))

  defp json(term) do
    with {:ok, json} <- JSON.encode(term), do: {:ok, [text_item(json)]}
  end
end
