unless Code.ensure_loaded?(CodexSdk.Prebuilt) do
  defmodule CodexSdk.Prebuilt do
    @moduledoc """
    Finds, fetches and checks the prebuilt native artefacts of a release.

    `bin/dist` writes an archive for each target and lists their SHA-256 sums in
    `native/prebuilt.sums`, which the package contains. A line `address …` in that file, the
    application's `config :codex_sdk, prebuilt: "…"` or the environment variable
    `CODEX_SDK_PREBUILT` (the strongest) names the place of the archives: an `https://` or
    `http://` address, or a folder.

    An archive is used only if its sum is in the list, wherever the archive comes from. It is kept
    in the user's cache folder, so one machine fetches it once.
    """

    @files ["libcodex_nif.so", "codex_launcher"]

    # Every released NIF uses this version of the NIF interface; OTP 25 and newer load it.
    @nif "2.15"

    @max_bytes 64 * 1024 * 1024
    @connect_ms 15_000
    @silence_ms 30_000
    @profile :codex_sdk_prebuilt

    @type source :: %{name: String.t(), sum: String.t(), address: String.t() | nil}

    @doc "Returns the files of an archive."
    def files, do: @files

    @doc "Returns the name of the archive for a version and a target."
    @spec name(String.t(), String.t()) :: String.t()
    def name(version, target), do: "codex_sdk-#{version}-nif-#{@nif}-#{target}.tar.gz"

    @doc """
    Returns the Rust target triple of this machine, or `nil` for a machine without artefacts.

        iex> CodexSdk.Prebuilt.target("x86_64-pc-linux-gnu")
        "x86_64-unknown-linux-gnu"
    """
    @spec target(String.t()) :: String.t() | nil
    def target(system \\ to_string(:erlang.system_info(:system_architecture))) do
      arch = system |> String.split("-") |> hd()

      cond do
        arch not in ["x86_64", "aarch64", "arm64"] -> nil
        system =~ "linux-musl" -> "#{arch}-unknown-linux-musl"
        system =~ "linux" -> "#{arch}-unknown-linux-gnu"
        true -> nil
      end
    end

    @doc """
    Returns the source of this machine's archive. Its address is nil if no place is known.

    `:none` means that the package lists no archives, or neither an archive for this machine nor a
    place. `{:error, reason}` means that a place is known, and the release has none for this
    machine.
    """
    @spec source(Path.t(), String.t()) :: {:ok, source()} | :none | {:error, String.t()}
    def source(list, version) do
      with {:ok, text} <- read(list) do
        lines = String.split(text, "\n", trim: true)
        address = address(lines)

        case archive(lines, version, target()) do
          {:ok, archive} -> {:ok, Map.put(archive, :address, address)}
          {:error, _reason} when address == nil -> :none
          {:error, reason} -> {:error, reason}
        end
      end
    end

    defp read(list) do
      with {:error, _} <- File.read(list), do: :none
    end

    defp address(lines) do
      named = for "address " <> address <- lines, do: String.trim(address)

      Enum.find(
        [
          System.get_env("CODEX_SDK_PREBUILT"),
          Application.get_env(:codex_sdk, :prebuilt) | named
        ],
        &(is_binary(&1) and &1 != "")
      )
    end

    defp archive(_lines, _version, nil) do
      system = :erlang.system_info(:system_architecture)
      {:error, "this release has no prebuilt artefacts for #{system}"}
    end

    defp archive(lines, version, target) do
      name = name(version, target)

      case for line <- lines, [sum, ^name] <- [String.split(line)], do: sum do
        [sum | _] -> {:ok, %{name: name, sum: sum}}
        [] -> {:error, "this release has no archive #{name}"}
      end
    end

    @doc """
    Returns the two files of the archive as `{name, bytes}`, after its sum was checked.

    Takes the archive from the cache folder, else from its address.
    """
    @spec fetch(source()) :: {:ok, [{String.t(), binary()}]} | {:error, String.t()}
    def fetch(source) do
      kept = Path.join(cache(), source.name)

      with :ok <- start(:crypto),
           {:error, _} <- checked(File.read(kept), source, kept),
           {:ok, bytes} <- get(source),
           {:ok, bytes} <- checked({:ok, bytes}, source, place(source)) do
        keep(kept, bytes)
        unpack(bytes, source)
      else
        {:ok, bytes} -> unpack(bytes, source)
        {:error, reason} -> {:error, reason}
      end
    end

    defp cache, do: to_string(:filename.basedir(:user_cache, "codex_sdk"))

    defp checked({:ok, bytes}, source, place) do
      case Base.encode16(:crypto.hash(:sha256, bytes), case: :lower) do
        sum when sum == source.sum ->
          {:ok, bytes}

        sum ->
          {:error, "#{place} has the SHA-256 sum #{sum}, expected #{source.sum}"}
      end
    end

    defp checked({:error, reason}, _source, place), do: unreadable(place, reason)

    defp unreadable(place, reason),
      do: {:error, "#{place} cannot be read: #{:file.format_error(reason)}"}

    # A cache that cannot be written costs another download, and nothing else.
    defp keep(kept, bytes) do
      part = "#{kept}.#{System.pid()}"

      with :ok <- File.mkdir_p(Path.dirname(kept)),
           :ok <- File.write(part, bytes),
           do: File.rename(part, kept)
    end

    defp unpack(bytes, source) do
      with {:ok, entries} <- :erl_tar.extract({:binary, bytes}, [:memory, :compressed]),
           found = for({name, file} <- entries, do: {Path.basename(to_string(name)), file}),
           [] <- @files -- Enum.map(found, &elem(&1, 0)) do
        {:ok, for(name <- @files, do: {name, found |> List.keyfind(name, 0) |> elem(1)})}
      else
        _ -> {:error, "#{source.name} is not an archive of #{Enum.join(@files, " and ")}"}
      end
    end

    defp place(%{address: address, name: name}),
      do: String.trim_trailing(address, "/") <> "/" <> name

    defp get(source) do
      place = place(source)

      if String.starts_with?(place, ["http://", "https://"]) do
        download(place)
      else
        with {:error, reason} <- File.read(place), do: unreadable(place, reason)
      end
    end

    # --- HTTP ----------------------------------------------------------------------------------

    defp download(url) do
      with :ok <- start(:inets), :ok <- start(:ssl) do
        # A profile of its own: the options of other users of httpc stay as they are.
        {:ok, _pid} = :inets.start(:httpc, profile: @profile)

        try do
          proxies = proxies()
          :ok = :httpc.set_options(Enum.map(proxies, & &1.option), @profile)
          request(url, proxies)
        after
          :inets.stop(:httpc, @profile)
        end
      end
    end

    # Mix takes applications that a project does not name from the code path.
    defp start(app) do
      if function_exported?(Mix, :ensure_application!, 1), do: Mix.ensure_application!(app)

      case Application.ensure_all_started(app) do
        {:ok, _} -> :ok
        {:error, _} -> {:error, "OTP's application #{app} is not installed"}
      end
    rescue
      Mix.Error -> {:error, "OTP's application #{app} is not installed"}
    end

    defp request(url, proxies) do
      credentials = for %{credentials: {_, _} = pair} <- proxies, do: {:proxy_auth, pair}

      http =
        [connect_timeout: @connect_ms, autoredirect: true, ssl: tls()] ++
          Enum.take(credentials, 1)

      options = [sync: false, stream: {:self, :once}, body_format: :binary]
      request = {String.to_charlist(url), [{~c"user-agent", ~c"codex_sdk"}]}

      case :httpc.request(:get, request, http, options, @profile) do
        {:ok, ref} ->
          with {:error, reason} <- receive_start(ref, url) do
            :httpc.cancel_request(ref, @profile)
            {:error, reason}
          end

        {:error, reason} ->
          failed(url, reason)
      end
    end

    defp receive_start(ref, url) do
      receive do
        {:http, {^ref, :stream_start, _headers, handler}} ->
          receive_body(ref, url, handler, [], 0)

        {:http, {^ref, {{_http, status, _phrase}, _headers, _body}}} ->
          {:error, "#{url} answered with the HTTP status #{status}"}

        {:http, {^ref, {:error, reason}}} ->
          failed(url, reason)
      after
        @connect_ms + @silence_ms -> {:error, "#{url} did not answer within #{silence()}"}
      end
    end

    defp receive_body(_ref, url, _handler, _parts, size) when size > @max_bytes,
      do: {:error, "#{url} sends more than #{@max_bytes} bytes"}

    defp receive_body(ref, url, handler, parts, size) do
      :ok = :httpc.stream_next(handler)

      receive do
        {:http, {^ref, :stream, part}} ->
          receive_body(ref, url, handler, [parts, part], size + byte_size(part))

        {:http, {^ref, :stream_end, _headers}} ->
          {:ok, IO.iodata_to_binary(parts)}

        {:http, {^ref, {:error, reason}}} ->
          failed(url, reason)
      after
        @silence_ms -> {:error, "#{url} sent nothing for #{silence()}"}
      end
    end

    defp silence, do: "#{div(@silence_ms, 1000)} s"

    defp failed(url, reason), do: {:error, "#{url} cannot be fetched: #{words(reason)}"}

    defp words({:failed_connect, details}) do
      case List.keyfind(details, :inet, 0) || List.keyfind(details, :inet6, 0) do
        {_, _, {:tls_alert, {alert, _}}} -> "the TLS connection failed (#{alert})"
        {_, _, reason} when is_atom(reason) -> to_string(:inet.format_error(reason))
        _ -> "the connection failed"
      end
    end

    defp words(:socket_closed_remotely), do: "the server closed the connection"
    defp words(:timeout), do: "the server did not answer in time"
    defp words(reason) when is_atom(reason), do: to_string(:inet.format_error(reason))
    defp words(_reason), do: "the request failed"

    defp tls do
      authorities =
        case System.get_env("SSL_CERT_FILE") do
          path when path in [nil, ""] -> [cacerts: system_authorities()]
          path -> [cacertfile: path]
        end

      match = :public_key.pkix_verify_hostname_match_fun(:https)

      authorities ++
        [
          verify: :verify_peer,
          depth: 8,
          customize_hostname_check: [match_fun: match],
          log_level: :none
        ]
    end

    # Without authorities no certificate is accepted: the connection fails, as it should.
    defp system_authorities do
      :public_key.cacerts_get()
    rescue
      _ -> []
    end

    # The variables that other programs read: HTTPS_PROXY for https, HTTP_PROXY for http.
    defp proxies do
      exceptions =
        for host <- String.split(env("NO_PROXY") || "", [",", " "], trim: true),
            do: String.to_charlist(host)

      for {option, name} <- [https_proxy: "HTTPS_PROXY", proxy: "HTTP_PROXY"],
          %URI{host: host} = uri when is_binary(host) and host != "" <- [parse(env(name))] do
        address = {String.to_charlist(host), uri.port || 3128}
        %{option: {option, {address, exceptions}}, credentials: credentials(uri.userinfo)}
      end
    end

    defp env(name), do: System.get_env(name) || System.get_env(String.downcase(name))

    defp parse(nil), do: nil
    defp parse(text), do: URI.parse(if(text =~ "://", do: text, else: "http://" <> text))

    defp credentials(nil), do: nil

    defp credentials(userinfo) do
      [user | password] = String.split(userinfo, ":", parts: 2)
      {charlist(user), charlist(List.first(password) || "")}
    end

    defp charlist(text), do: text |> URI.decode() |> String.to_charlist()
  end
end
