# Installs the culvert binary for Windows, or another version of it, and with a token its service:
#
#   irm https://edge.example.com/install.ps1 | iex
#   & ([scriptblock]::Create((irm https://edge.example.com/install.ps1))) TOKEN -Dir "$env:ProgramFiles\tunnels"
#   powershell -ExecutionPolicy Bypass -File install.ps1 -Help
#
# It does what install.sh does elsewhere, with the same options, on Windows PowerShell 5.1 and PowerShell 7.
#
# What is trusted: before anything of a release runs, the SHA-256 of the binary is compared with SHA256SUMS, and the
# minisign signature of SHA256SUMS (Ed25519 over BLAKE2b-512) is verified with the keys below or those of -Key. No .NET
# that comes with Windows has either algorithm, so both are in this script, in C#, which Windows compiles; public data
# only, so time may tell what it likes. This script itself is trusted as far as TLS, or whoever gave it to you, goes.
#
# UNTESTED as a whole: no PowerShell could be run where this was written. Tests run the C# (under Mono) and compare the
# options with those of install.sh; what it calls (`culvert service install --token-file -` and so on) runs under Wine.
#
# Everything is a function and the last line calls it, so that a script cut off on its way does nothing.

[CmdletBinding()]
param(
  [Parameter(Position = 0)][string]$Token = $env:CULVERT_TOKEN,
  [string]$Version = '',
  [string]$Dir = '',
  [switch]$User,
  [string]$TokenFile = '',
  [switch]$NoService,
  [string]$BaseUrl = $env:CULVERT_BASE_URL,
  [string[]]$Key = @("$env:CULVERT_UPDATE_KEY".Split(',')),
  [string]$Offline = '',
  [string]$Binary = '',
  [string]$Sha256 = '',
  [switch]$Yes,
  [switch]$Uninstall,
  [switch]$Purge,
  [switch]$DryRun,
  [switch]$InsecureNoSignature,
  [switch]$Help
)

function Install-Culvert {
  $ErrorActionPreference = 'Stop'
  $ProgressPreference = 'SilentlyContinue'
  Set-StrictMode -Version 2

  # Whoever hands this script out fills these in: an edge its own address, and both the minisign keys that it trusts.
  $DefaultBaseUrl = ''
  $DefaultKeys = ''

  $MaxSmallBytes = 1MB
  $MaxBinaryBytes = 512MB
  $NeededBytes = 300MB
  # Milliseconds to connect, and without a byte after which a server has gone.
  $ConnectMs = 20000
  $SilenceMs = 30000
  $MaxTries = 4
  # Windows 10 of 2018, and Server 2019: the runtime inside the binary asks for it.
  $OldestBuild = 17763
  $DataDir = 'C:\ProgramData\culvert'

  $Usage = @'
usage: install.ps1 [TOKEN] [options]

With a TOKEN it also installs and starts the tunnel's service. The command line of a process can be seen by others on
this machine: $env:CULVERT_TOKEN, or -TokenFile, keep the token off it.

  -Version V           install this version instead of the newest
  -Dir DIR             install to DIR\culvert.exe; default C:\Program Files\culvert as administrator,
                       else Programs\culvert in this account's local application data
  -User                install for this account alone, as without administrator's rights; services need those
  -TokenFile FILE      file that holds the token
  -NoService           leave services alone: install, restart and remove none
  -BaseUrl URL         take releases from URL/dl/ ($env:CULVERT_BASE_URL)
  -Key KEY             trust this minisign public key too: a .pub file or its second line ($env:CULVERT_UPDATE_KEY)
  -Offline BUNDLE      take everything from what `culvert bundle` wrote: the archive, or the folder it was unpacked to
  -Binary FILE         install this file, which you vouch for
  -Sha256 HEX          refuse the -Binary unless its SHA-256 is this
  -Yes                 do not ask: install an older version than the one that is there
  -Uninstall           remove DIR\culvert.exe and its services; configuration and tokens stay
  -Purge               with -Uninstall: remove configuration, tokens and state too
  -DryRun              say what would be done, and do nothing
  -InsecureNoSignature take a release that nobody has signed; its checksums are still compared
  -Help                show this
'@

  # C# 5, which is what Windows' own compiler reads.
  $Source = @'
using System;
using System.Globalization;
using System.Numerics;
using System.Security.Cryptography;
using System.Text;

public static class CulvertRelease
{
    const string Bad = "it is no minisign signature";
    static readonly BigInteger P = BigInteger.Pow(2, 255) - 19;
    static readonly BigInteger Order = BigInteger.Pow(2, 252) +
        BigInteger.Parse("27742317777372353535851937790883648493", CultureInfo.InvariantCulture);
    static readonly BigInteger CurveD = Mod(-121665 * Inverse(121666));
    static readonly BigInteger RootOfMinusOne = BigInteger.ModPow(2, (P - 1) / 4, P);

    // The trusted comment of a signature that one of the keys made of the content; throws for every other.
    public static string Verify(byte[] content, string signature, string[] keys)
    {
        string[] lines = signature.Split('\n');
        if (lines.Length < 4) throw new FormatException(Bad);
        byte[] first = Convert.FromBase64String(lines[1].Trim());
        byte[] seal = Convert.FromBase64String(lines[3].Trim());
        string head = "trusted comment: ";
        string comment = lines[2].TrimEnd('\r');
        if (!comment.StartsWith(head, StringComparison.Ordinal)) throw new FormatException(Bad);
        // "ED" in front: the signature is of the BLAKE2b of the content.
        bool known = first.Length == 74 && first[0] == 'E' && first[1] == 'D' && seal.Length == 64;
        if (!known) throw new FormatException(Bad);
        comment = comment.Substring(head.Length);
        byte[] key = null;
        foreach (string text in keys)
        {
            byte[] one = Convert.FromBase64String(text);
            if (one.Length != 42 || one[0] != 'E' || one[1] != 'd')
                throw new FormatException(text + " is no minisign public key");
            bool same = true;
            for (int i = 2; i < 10; i++) same = same && one[i] == first[i];
            if (same) key = Slice(one, 10, 32);
        }
        if (key == null) throw new FormatException("it is signed with a key that is not trusted");
        byte[] main = Slice(first, 10, 64);
        byte[] both = Join(main, Encoding.UTF8.GetBytes(comment));
        if (!IsSigned(key, main, Blake2b(content)) || !IsSigned(key, seal, both))
            throw new FormatException("it does not fit its signature: it was changed, or damaged on the way");
        return comment;
    }

    // Below, at or above zero: which version is older (semver, section 11).
    public static int Compare(string a, string b)
    {
        string[] x = a.Split(new[] { '-' }, 2);
        string[] y = b.Split(new[] { '-' }, 2);
        int order = Fields(x[0], y[0]);
        if (order != 0) return order;
        if (x.Length != y.Length) return x.Length > y.Length ? -1 : 1;
        return x.Length == 1 ? 0 : Fields(x[1], y[1]);
    }

    static int Fields(string a, string b)
    {
        string[] x = a.Split('.');
        string[] y = b.Split('.');
        for (int i = 0; i < x.Length && i < y.Length; i++)
        {
            ulong m, n;
            bool p = ulong.TryParse(x[i], NumberStyles.None, CultureInfo.InvariantCulture, out m);
            bool q = ulong.TryParse(y[i], NumberStyles.None, CultureInfo.InvariantCulture, out n);
            int order = p && q ? m.CompareTo(n) : p != q ? (p ? -1 : 1) : string.CompareOrdinal(x[i], y[i]);
            if (order != 0) return order < 0 ? -1 : 1;
        }
        return x.Length.CompareTo(y.Length);
    }

    // Ed25519 (RFC 8032, section 5.1.7).
    public static bool IsSigned(byte[] key, byte[] signature, byte[] message)
    {
        BigInteger s = Number(Slice(signature, 32, 32));
        BigInteger[] a = Point(key);
        // Above the order there would be two signatures of one message.
        if (a == null || s >= Order) return false;
        byte[] r = Slice(signature, 0, 32);
        byte[] hash;
        using (SHA512 sha = SHA512.Create()) hash = sha.ComputeHash(Join(Join(r, key), message));
        BigInteger h = BigInteger.Remainder(Number(hash), Order);
        BigInteger[] minus = { Mod(-a[0]), a[1], a[2], Mod(-a[3]) };
        byte[] y = new byte[32];
        y[0] = 0x58;
        for (int i = 1; i < 32; i++) y[i] = 0x66;
        byte[] found = Bytes(Add(Times(Point(y), s), Times(minus, h)));
        bool same = true;
        for (int i = 0; i < 32; i++) same = same && found[i] == r[i];
        return same;
    }

    // A point is X, Y, Z and T (RFC 8032, section 5.1.4).
    static BigInteger[] Add(BigInteger[] p, BigInteger[] q)
    {
        BigInteger a = Mod((p[1] - p[0]) * (q[1] - q[0])), b = Mod((p[1] + p[0]) * (q[1] + q[0]));
        BigInteger c = Mod(2 * CurveD * Mod(p[3] * q[3])), d = Mod(2 * p[2] * q[2]);
        BigInteger e = b - a, f = d - c, g = d + c, h = b + a;
        return new[] { Mod(e * f), Mod(g * h), Mod(f * g), Mod(e * h) };
    }

    static BigInteger[] Times(BigInteger[] point, BigInteger factor)
    {
        BigInteger[] sum = { 0, 1, 1, 0 };
        byte[] bits = factor.ToByteArray();
        for (int i = bits.Length * 8 - 1; i >= 0; i--)
        {
            sum = Add(sum, sum);
            if ((bits[i / 8] >> (i % 8) & 1) == 1) sum = Add(sum, point);
        }
        return sum;
    }

    // Null where there is no such point (RFC 8032, section 5.1.3).
    static BigInteger[] Point(byte[] bytes)
    {
        byte[] low = (byte[])bytes.Clone();
        int sign = low[31] >> 7;
        low[31] &= 0x7f;
        BigInteger y = Number(low);
        if (y >= P) return null;
        BigInteger square = Mod((y * y - 1) * Inverse(Mod(CurveD * y * y + 1)));
        BigInteger x = BigInteger.ModPow(square, (P + 3) / 8, P);
        if (Mod(x * x - square) != 0) x = Mod(x * RootOfMinusOne);
        if (Mod(x * x - square) != 0 || (x.IsZero && sign == 1)) return null;
        if ((x.IsEven ? 0 : 1) != sign) x = P - x;
        return new[] { x, y, BigInteger.One, Mod(x * y) };
    }

    static byte[] Bytes(BigInteger[] point)
    {
        BigInteger z = Inverse(point[2]);
        byte[] all = new byte[32];
        byte[] y = Mod(point[1] * z).ToByteArray();
        Array.Copy(y, all, Math.Min(32, y.Length));
        if (!Mod(point[0] * z).IsEven) all[31] |= 0x80;
        return all;
    }

    static BigInteger Mod(BigInteger value)
    {
        BigInteger rest = BigInteger.Remainder(value, P);
        return rest.Sign < 0 ? rest + P : rest;
    }

    static BigInteger Inverse(BigInteger value) { return BigInteger.ModPow(value, P - 2, P); }

    // The low byte comes first; a zero behind it keeps it from being negative.
    static BigInteger Number(byte[] bytes) { return new BigInteger(Join(bytes, new byte[1])); }

    static byte[] Slice(byte[] bytes, int from, int count)
    {
        byte[] part = new byte[count];
        Array.Copy(bytes, from, part, 0, count);
        return part;
    }

    static byte[] Join(byte[] a, byte[] b)
    {
        byte[] all = new byte[a.Length + b.Length];
        a.CopyTo(all, 0);
        b.CopyTo(all, a.Length);
        return all;
    }

    static readonly ulong[] Start =
    {
        0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
        0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179
    };
    static readonly string[] Rounds =
    {
        "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d",
        "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0"
    };

    // BLAKE2b-512 (RFC 7693).
    public static byte[] Blake2b(byte[] content)
    {
        ulong[] h = (ulong[])Start.Clone();
        h[0] ^= 0x01010040;
        int blocks = Math.Max(1, (content.Length + 127) / 128);
        for (int block = 0; block < blocks; block++)
        {
            byte[] bytes = new byte[128];
            int left = Math.Min(128, content.Length - 128 * block);
            if (left > 0) Array.Copy(content, 128 * block, bytes, 0, left);
            bool last = block == blocks - 1;
            Compress(h, bytes, last ? (ulong)content.Length : 128 * ((ulong)block + 1), last);
        }
        byte[] hash = new byte[64];
        for (int i = 0; i < 64; i++) hash[i] = (byte)(h[i / 8] >> (8 * (i % 8)));
        return hash;
    }

    static void Compress(ulong[] h, byte[] block, ulong count, bool last)
    {
        ulong[] m = new ulong[16];
        for (int i = 0; i < 128; i++) m[i / 8] |= (ulong)block[i] << (8 * (i % 8));
        ulong[] v = new ulong[16];
        h.CopyTo(v, 0);
        Start.CopyTo(v, 8);
        v[12] ^= count;
        if (last) v[14] = ~v[14];
        for (int round = 0; round < 12; round++)
        {
            int[] o = new int[16];
            for (int i = 0; i < 16; i++) o[i] = Convert.ToInt32(Rounds[round % 10].Substring(i, 1), 16);
            for (int i = 0; i < 4; i++) Mix(v, i, i + 4, i + 8, i + 12, m[o[2 * i]], m[o[2 * i + 1]]);
            for (int i = 0; i < 4; i++)
                Mix(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[o[8 + 2 * i]], m[o[9 + 2 * i]]);
        }
        for (int i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
    }

    static void Mix(ulong[] v, int a, int b, int c, int d, ulong x, ulong y)
    {
        unchecked
        {
            v[a] += v[b] + x; v[d] = Right(v[d] ^ v[a], 32);
            v[c] += v[d]; v[b] = Right(v[b] ^ v[c], 24);
            v[a] += v[b] + y; v[d] = Right(v[d] ^ v[a], 16);
            v[c] += v[d]; v[b] = Right(v[b] ^ v[c], 63);
        }
    }

    static ulong Right(ulong word, int bits) { return word >> bits | word << (64 - bits); }
}
'@

  # --- small things -------------------------------------------------------------------------------------------------

  function Say([string]$Text) { Write-Host $Text }

  function Stop-Install([string]$Message, [string[]]$Hints = @()) {
    throw (@("error: $Message") + @($Hints | ForEach-Object { "  $_" }) -join "`n")
  }

  function Hide-Login([string]$Url) { $Url -replace '//[^/@]*@', '//' }

  function Get-Sum([string]$Path) { (Get-FileHash -LiteralPath $Path -Algorithm SHA256).Hash.ToLowerInvariant() }

  function Test-Sum([string]$Path, [string]$Sum) {
    (Test-Path -LiteralPath $Path -PathType Leaf) -and (Get-Sum $Path) -eq $Sum
  }

  function Test-Administrator {
    $me = New-Object Security.Principal.WindowsPrincipal ([Security.Principal.WindowsIdentity]::GetCurrent())
    $me.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)
  }

  # What a program prints, and its exit code, or why it does not start. It gets nothing to read.
  function Invoke-Program([string]$Path, [string[]]$Words) {
    # What it writes to standard error is no error of ours.
    $ErrorActionPreference = 'Continue'
    try {
      $said = '' | & $Path @Words 2>&1 | Out-String
      @{ Code = $LASTEXITCODE; Said = $said.Trim() }
    } catch { @{ Code = -1; Said = $_.Exception.Message } }
  }

  function Read-VersionOf([string]$Path) {
    if (-not (Test-Path -LiteralPath $Path -PathType Leaf)) { return '' }
    if ((Invoke-Program $Path @('--version')).Said -match '^culvert version (\d[0-9A-Za-z.-]*)') { return $Matches[1] }
    ''
  }

  function Read-Key([string]$Text) {
    if ($Text -notlike '*.pub') { return $Text.Trim() }
    if (-not (Test-Path -LiteralPath $Text)) { Stop-Install "cannot read the key `"$Text`"" }
    (@(Get-Content -LiteralPath $Text | Where-Object { $_ -notlike 'untrusted comment:*' }) -join '').Trim()
  }

  # --- where from ---------------------------------------------------------------------------------------------------

  # Goes on with what the file holds. Gives a reason instead of throwing; an empty one is success.
  function Receive-File([string]$Url, [string]$Path, [long]$Limit) {
    $have = 0
    if (Test-Path -LiteralPath $Path) { $have = (Get-Item -LiteralPath $Path -Force).Length }
    $request = [Net.WebRequest]::Create($Url)
    $request.UserAgent = 'culvert-install'
    $request.Timeout = $ConnectMs
    $request.ReadWriteTimeout = $SilenceMs
    $proxy = $env:https_proxy
    if ($Url -like 'http://*') { $proxy = $env:http_proxy }
    if ($proxy) { $request.Proxy = New-Object Net.WebProxy $proxy }
    elseif ($request.Proxy) { $request.Proxy.Credentials = [Net.CredentialCache]::DefaultCredentials }
    if ($have -gt 0) { $request.AddRange([long]$have) }
    $response = $null
    $file = $null
    try {
      $response = $request.GetResponse()
      if ($Url -like 'https://*' -and $response.ResponseUri.Scheme -ne 'https') { return 'it leads away from https' }
      $mode = [IO.FileMode]::Create
      if ($have -gt 0 -and [int]$response.StatusCode -eq 206) { $mode = [IO.FileMode]::Append } else { $have = 0 }
      $file = New-Object IO.FileStream $Path, $mode
      $body = $response.GetResponseStream()
      $buffer = New-Object byte[] 1048576
      $done = [long]0
      while (($count = $body.Read($buffer, 0, $buffer.Length)) -gt 0) {
        $done += $count
        if ($have + $done -gt $Limit) { return 'it is larger than any such file is' }
        $file.Write($buffer, 0, $count)
      }
      if ($response.ContentLength -ge 0 -and $done -ne $response.ContentLength) { return 'the connection was cut' }
      return ''
    } catch {
      $cause = $_.Exception
      while ($cause.InnerException) { $cause = $cause.InnerException }
      # Nothing is left to ask for, or what is there is of something else: the sum will tell.
      if ($_.Exception.ToString() -match '\(416\)') { return '' }
      return $cause.Message
    } finally {
      if ($file) { $file.Dispose() }
      if ($response) { $response.Dispose() }
    }
  }

  function Get-Remote([string]$Name, [string]$Path, [long]$Limit) {
    $url = "$script:CulvertBase/dl/$Name"
    for ($try = 1; $try -le $MaxTries; $try++) {
      $reason = Receive-File $url $Path $Limit
      if ($reason -eq '') { return }
      if ($reason -match '\(40[0-9]\)|larger than|away from https') { break }
      if ($try -lt $MaxTries) { Start-Sleep -Seconds $try }
    }
    Stop-Install "cannot download $(Hide-Login $url): $reason" @(
      'Where only a proxy leads outside, name it with $env:https_proxy = "http://HOST:PORT".')
  }

  # One file out of the bundle; false when it does not hold it.
  function Copy-Bundled([string]$Name, [string]$Path) {
    if (Test-Path -LiteralPath $Offline -PathType Container) {
      $from = Join-Path $Offline $Name
      if (-not (Test-Path -LiteralPath $from -PathType Leaf)) { return $false }
      Copy-Item -LiteralPath $from -Destination $Path -Force
      return $true
    }
    $tar = Join-Path $env:SystemRoot 'System32\tar.exe'
    if (-not (Test-Path -LiteralPath $tar)) {
      Stop-Install 'this Windows has no tar.exe' @('Unpack the bundle elsewhere, and give its folder to -Offline.')
    }
    $unpacked = Invoke-Program $tar @('-xf', $Offline, '-C', $script:CulvertWork, "culvert-bundle/$Name")
    $from = Join-Path $script:CulvertWork "culvert-bundle\$Name"
    if ($unpacked.Code -ne 0 -or -not (Test-Path -LiteralPath $from -PathType Leaf)) { return $false }
    Move-Item -LiteralPath $from -Destination $Path -Force
    $true
  }

  function Get-Small([string]$Name) {
    $path = Join-Path $script:CulvertWork $Name
    if ($Offline) {
      if (-not (Copy-Bundled $Name $path)) {
        Stop-Install "`"$Offline`" is no bundle of culvert's, or nobody has signed it: it lacks $Name" @(
          'Make one with: culvert bundle')
      }
    } else { Get-Remote $Name $path $MaxSmallBytes }
    if ((Get-Item -LiteralPath $path).Length -gt $MaxSmallBytes) {
      Stop-Install "$Name is larger than any such file is"
    }
    $path
  }

  # --- checking -----------------------------------------------------------------------------------------------------

  function Find-Build {
    if ([Environment]::OSVersion.Version.Build -lt $OldestBuild) {
      Stop-Install 'this Windows is too old' @('culvert needs Windows 10 version 1809, Server 2019, or newer.')
    }
    # Not of this process, which may run emulated.
    $native = 'HKLM:\SYSTEM\CurrentControlSet\Control\Session Manager\Environment'
    $cpu = (Get-ItemProperty -LiteralPath $native).PROCESSOR_ARCHITECTURE
    switch ($cpu) {
      'AMD64' { return 'windows-x64' }
      'ARM64' { return 'windows-arm64' }
    }
    Stop-Install "there is no culvert for this CPU ($cpu)" @('It exists for 64-bit x86 and 64-bit ARM.')
  }

  function Import-Verifier {
    if ('CulvertRelease' -as [type]) { return }
    # PowerShell 7 refers to all of .NET, unless it is told to what.
    if ($PSVersionTable.PSEdition -eq 'Core') { Add-Type -TypeDefinition $Source }
    else { Add-Type -TypeDefinition $Source -ReferencedAssemblies 'System.Numerics' }
  }

  # Which file of the release is wanted, and its SHA-256. Nothing unsigned is believed.
  function Read-Release([string]$Build) {
    $name = 'SHA256SUMS'
    # A bundle is of one version.
    if ($Version -and -not $Offline) { $name = "culvert-$Version-SHA256SUMS" }
    $sums = Get-Small $name
    $lines = @(Get-Content -LiteralPath $sums)
    $file = "culvert-(?<version>[0-9A-Za-z.-]+?)-$Build\.exe"
    if ($InsecureNoSignature) {
      Write-Warning 'the signature is not looked at: whoever can change the release can run what they like here'
      $of = ''
      foreach ($line in $lines) {
        if (-not $of -and $line -match "^[0-9a-f]{64} [ *]$file`$") { $of = $Matches['version'] }
      }
    } else {
      $keys = @($DefaultKeys.Split(' ') + @($Key | ForEach-Object { Read-Key $_ }) | Where-Object { $_ })
      if ($keys.Count -eq 0) {
        Stop-Install 'there is no key to verify a release with' @(
          'Give the minisign public key of whoever makes your releases: -Key KEY.',
          'A release that nobody has signed is only taken with -InsecureNoSignature.')
      }
      $signature = [IO.File]::ReadAllText((Get-Small "$name.minisig"))
      try { $comment = [CulvertRelease]::Verify([IO.File]::ReadAllBytes($sums), $signature, [string[]]$keys) } catch {
        Stop-Install "$name is refused: $($_.Exception.GetBaseException().Message); nothing was installed" @(
          "It has to be signed with one of: $($keys -join ' ')")
      }
      if ($comment -cmatch '^culvert (?<version>[0-9A-Za-z.-]+) sums$') { $of = $Matches['version'] }
      else { Stop-Install "$name is signed as something else: `"$comment`"" }
    }
    if ($Version -and $of -cne $Version) { Stop-Install "$name is of version $of, not $Version" }
    $wanted = "culvert-$of-$Build.exe"
    foreach ($line in $lines) {
      if ($line -cmatch '^(?<sum>[0-9a-f]{64}) [ *](?<name>\S+)$' -and $Matches['name'] -ceq $wanted) {
        return @{ Version = $of; Name = $wanted; Sum = $Matches['sum']; Build = $Build }
      }
    }
    Stop-Install "this release has no binary for this machine ($Build)"
  }

  # --- installing ---------------------------------------------------------------------------------------------------

  function Confirm-Downgrade([string]$Before, [string]$New) {
    if (-not $Before -or -not $New -or $Yes) { return }
    if ([CulvertRelease]::Compare($New, $Before) -ge 0) { return }
    if ($DryRun) { return Say "would ask whether to replace culvert $Before by the older $New" }
    $answer = ''
    # Where nobody can be asked, the answer is no.
    $question = "culvert $Before is installed. Replace it by the older ${New}? [y/N]"
    try { $answer = Read-Host $question } catch { $null = $_ }
    if ($answer -notmatch '^(y|yes)$') {
      Stop-Install "culvert $New is older than $Before, which is installed; nothing was changed" @(
        '-Yes takes it all the same.')
    }
  }

  # The same lock as of `culvert update`: a file with the process that has it.
  function Enter-Lock([string]$Path) {
    for ($try = 1; $try -le 2; $try++) {
      try {
        $file = New-Object IO.FileStream $Path, ([IO.FileMode]::CreateNew)
        $text = [Text.Encoding]::ASCII.GetBytes("$PID`n")
        $file.Write($text, 0, $text.Length)
        $file.Dispose()
        return
      } catch {
        if (-not (Test-Path -LiteralPath $Path)) {
          Stop-Install "cannot write to ${Dir}: $($_.Exception.GetBaseException().Message)" @(
            'Run it as administrator, or install for this account alone with -User.')
        }
        $judged = "$(Get-Content -LiteralPath $Path -ErrorAction SilentlyContinue)"
        $holder = $judged -replace '\D', ''
        if ($try -eq 2 -or ($holder -and (Get-Process -Id $holder -ErrorAction SilentlyContinue))) {
          Stop-Install "another installation or update is already running (process $holder)" @(
            "Wait for it. When there is none, remove $Path.")
        }
        # Its process was killed.
        Remove-Mark $Path $judged
      }
    }
  }

  # Moved aside first: another process may have put its own in the place of the one that was judged.
  function Remove-Mark([string]$Path, [string]$Judged) {
    $aside = "$Path.$PID"
    Remove-Item -LiteralPath $aside -Force -ErrorAction SilentlyContinue
    # What cannot be moved is gone, or open in the process that has just made it.
    try { [IO.File]::Move($Path, $aside) } catch { return }
    if ("$(Get-Content -LiteralPath $aside)" -cne $Judged) {
      try { [IO.File]::Move($aside, $Path) } catch { $null = $_ }
    }
    Remove-Item -LiteralPath $aside -Force -ErrorAction SilentlyContinue
  }

  # A program that runs can be renamed, and not removed: what cannot go now goes with the next run.
  function Remove-Program([string]$Path) {
    if (-not (Test-Path -LiteralPath $Path)) { return }
    try { [IO.File]::Delete($Path) } catch {
      [IO.File]::Move($Path, (Join-Path $Dir ".culvert.$([Guid]::NewGuid().ToString('N')).old.exe"))
    }
  }

  function Remove-OldPrograms {
    Get-ChildItem -LiteralPath $Dir -Force -Filter '.culvert.*.old.exe' -ErrorAction SilentlyContinue |
      Remove-Item -Force -ErrorAction SilentlyContinue
  }

  function Assert-Space {
    $root = [IO.Path]::GetPathRoot($Dir)
    # A share of another machine does not tell.
    if ($root -notmatch '^[A-Za-z]:') { return }
    $drive = New-Object IO.DriveInfo $root
    if ($drive.IsReady -and $drive.AvailableFreeSpace -lt $NeededBytes) {
      Stop-Install "there is no space left on $($drive.Name)" @(
        'culvert needs about 300 MB there. Nothing was changed.')
    }
  }

  # Puts the new version in place. The one before is kept for `culvert update --rollback`.
  function Install-Program($Release, [string]$Before) {
    Assert-Space
    try { [void](New-Item -ItemType Directory -Path $Dir -Force) } catch {
      Stop-Install "cannot make the folder ${Dir}: $($_.Exception.Message)" @(
        'Run it as administrator, or install for this account alone with -User.')
    }
    $lock = Join-Path $Dir '.culvert.update'
    Enter-Lock $lock
    try {
      Remove-OldPrograms
      # Named as `culvert update` names it: either goes on with what the other has begun.
      $new = Join-Path $Dir ".culvert.$($Release.Sum.Substring(0, 16)).new.exe"
      if (-not (Test-Sum $new $Release.Sum)) { Get-Program $Release $new }
      $answer = Invoke-Program $new @('--version')
      $its = ''
      if ($answer.Code -eq 0 -and $answer.Said -match '^culvert version (\d[0-9A-Za-z.-]*)') { $its = $Matches[1] }
      if (-not $its) {
        Remove-Item -LiteralPath $new -Force
        Stop-Install "`"$($Release.Name)`" does not run on this machine: $($answer.Said) (exit code $($answer.Code))" @(
          'The version before, if there was one, is still in place.')
      }
      if ($Binary) {
        try { Confirm-Downgrade $Before $its } catch {
          Remove-Item -LiteralPath $new -Force
          throw
        }
      }
      $previous = Join-Path $Dir 'culvert.previous.exe'
      $there = Test-Path -LiteralPath $Target
      if ($there) {
        Remove-Program $previous
        [IO.File]::Move($Target, $previous)
      }
      try { [IO.File]::Move($new, $Target) } catch {
        if ($there) { [IO.File]::Move($previous, $Target) }
        throw
      }
      # What did not run is nothing to go back to.
      if ($there -and -not $Before) { Remove-Program $previous }
      Say "installed ${Target}: $($answer.Said)"
    } finally {
      Remove-Item -LiteralPath $lock -Force -ErrorAction SilentlyContinue
    }
  }

  function Get-Program($Release, [string]$New) {
    # Of other versions that were given up.
    Get-ChildItem -LiteralPath $Dir -Force -Filter '.culvert.????????????????.new.exe' |
      Where-Object { $_.FullName -ne $New } | Remove-Item -Force
    if ($Binary) {
      Copy-Item -LiteralPath $Binary -Destination $New -Force
    } elseif ($Offline) {
      if (-not (Copy-Bundled $Release.Name $New)) {
        Stop-Install "the bundle `"$Offline`" has no binary for this machine ($($Release.Build))" @(
          "Make one that has: culvert bundle --from PLACE --target $($Release.Build)")
      }
    } else {
      Say "downloading culvert $($Release.Version) ($($Release.Build)) from $(Hide-Login $script:CulvertBase)"
      $begun = Test-Path -LiteralPath $New
      Get-Remote $Release.Name $New $MaxBinaryBytes
      if ($begun -and -not (Test-Sum $New $Release.Sum)) {
        # What lay there may have been of something else.
        Remove-Item -LiteralPath $New -Force
        Get-Remote $Release.Name $New $MaxBinaryBytes
      }
    }
    if (-not (Test-Sum $New $Release.Sum)) {
      $got = Get-Sum $New
      Remove-Item -LiteralPath $New -Force
      Stop-Install "$($Release.Name) has the wrong checksum; nothing was installed" @(
        "SHA256SUMS says $($Release.Sum)", "what came has  $got")
    }
  }

  # Each service that runs the program in this folder, as the words that name it to `culvert service`.
  function Get-OwnServices {
    $known = @{ 'culvert' = @(); 'culvert-edge' = @('--edge') }
    Get-ChildItem -Path (Join-Path $DataDir 'tunnels') -Directory -ErrorAction SilentlyContinue |
      ForEach-Object { $known["culvert-$($_.Name)"] = @('--name', $_.Name) }
    foreach ($name in $known.Keys) {
      $at = "HKLM:\SYSTEM\CurrentControlSet\Services\$name"
      $found = Get-ItemProperty -LiteralPath $at -ErrorAction SilentlyContinue
      if ($found -and $found.ImagePath.Replace('"', '').StartsWith("$Target ", [StringComparison]::OrdinalIgnoreCase)) {
        @{ Name = $name; Words = $known[$name] }
      }
    }
  }

  function Start-Services([bool]$Changed) {
    $fine = $true
    if ($TokenFile) {
      $ErrorActionPreference = 'Continue'
      & $Target service install --token-file $TokenFile
      $fine = $LASTEXITCODE -eq 0
    } elseif ($Token) {
      # Through a pipe: no process has it on its command line.
      $ErrorActionPreference = 'Continue'
      $Token | & $Target service install --token-file -
      $fine = $LASTEXITCODE -eq 0
    }
    if ($Changed -and -not $NoService) {
      foreach ($service in @(Get-OwnServices)) {
        if ($service.Name -eq 'culvert' -and ($Token -or $TokenFile)) { continue }
        if ((Get-Service -Name $service.Name).Status -ne 'Running') { continue }
        $restarted = Invoke-Program $Target (@('service', 'restart') + $service.Words)
        Say $restarted.Said
        $fine = $fine -and $restarted.Code -eq 0
      }
    }
    if (-not $fine) { Stop-Install 'culvert is installed, but its service is not as it should be' }
  }

  # Unlike other systems, Windows has no folder for programs that is in every PATH.
  function Set-InPath([bool]$Wanted) {
    $root = [Microsoft.Win32.Registry]::CurrentUser
    $sub = 'Environment'
    if ($script:CulvertForMachine) {
      $root = [Microsoft.Win32.Registry]::LocalMachine
      $sub = 'SYSTEM\CurrentControlSet\Control\Session Manager\Environment'
    }
    $environment = $root.OpenSubKey($sub, $true)
    try {
      $asItIs = [Microsoft.Win32.RegistryValueOptions]::DoNotExpandEnvironmentNames
      $old = [string]$environment.GetValue('Path', '', $asItIs)
      $parts = @($old.Split(';') | Where-Object { $_ -and $_.TrimEnd('\') -ne $Dir })
      if ($Wanted -and @($old.Split(';') | Where-Object { $_.TrimEnd('\') -eq $Dir }).Count -gt 0) { return }
      if ($Wanted) { $parts += $Dir }
      $new = $parts -join ';'
      if ($new -eq $old) { return }
      $environment.SetValue('Path', $new, [Microsoft.Win32.RegistryValueKind]::ExpandString)
    } finally { $environment.Dispose() }
    # Tells programs that run, such as the desktop, that the environment has changed.
    [Environment]::SetEnvironmentVariable('CULVERT_INSTALL', $null, 'User')
    if ($Wanted) { Say "note: $Dir is in the PATH of new windows from now on" }
  }

  # --- what was asked for -------------------------------------------------------------------------------------------

  function Invoke-Install {
    $before = Read-VersionOf $Target
    if ($Binary) {
      if (-not (Test-Path -LiteralPath $Binary -PathType Leaf)) { Stop-Install "there is no file `"$Binary`"" }
      $sum = Get-Sum $Binary
      if ($Sha256 -and $sum -ne $Sha256.ToLowerInvariant()) {
        Stop-Install "SHA-256 of `"$Binary`" is $sum, not $Sha256; nothing was installed"
      }
      $release = @{ Version = ''; Name = $Binary; Sum = $sum; Build = '' }
    } elseif ($Offline -or $script:CulvertBase) {
      if ($Offline -and -not (Test-Path -LiteralPath $Offline)) { Stop-Install "there is no bundle `"$Offline`"" }
      $release = Read-Release (Find-Build)
      Confirm-Downgrade $before $release.Version
    } else {
      Stop-Install 'there is no place to install from' @(
        'Name an edge with -BaseUrl https://edge.example.com, a bundle with -Offline BUNDLE,',
        'or give the binary with -Binary PATH.')
    }
    $changed = -not (Test-Sum $Target $release.Sum)
    if ($DryRun) {
      if ($changed) { Say "would install $($release.Name) as $Target$(if ($before) { " in place of $before" })" }
      if ($Token -or $TokenFile) { Say 'would install the service' }
      return
    }
    if ($changed) { Install-Program $release $before } else { Say "culvert $before is installed already: $Target" }
    Set-InPath $true
    Start-Services $changed
  }

  function Invoke-Uninstall {
    $services = @(if (-not $NoService) { Get-OwnServices })
    if ($services.Count -gt 0 -and -not (Test-Administrator)) { Stop-Install 'removing services is for administrators' }
    foreach ($service in $services) {
      $words = @('service', 'uninstall') + $service.Words
      if ($Purge) { $words += '--purge' }
      if ($DryRun) { Say "would run: culvert $($words -join ' ')"; continue }
      $removed = Invoke-Program $Target $words
      Say $removed.Said
      if ($removed.Code -ne 0) { Stop-Install "the service $($service.Name) could not be removed; nothing else was" }
    }
    $names = @('culvert.previous.exe', '.culvert.update', '.culvert.lock', '.culvert.rejected', '.culvert.trial')
    $own = @($Target) + @($names | ForEach-Object { Join-Path $Dir $_ }) | Where-Object { Test-Path -LiteralPath $_ }
    if ($DryRun) { return @($own) | ForEach-Object { Say "would remove $_" } }
    if (@($own).Count -eq 0) { return Say "nothing to remove: there is no $Target" }
    foreach ($path in @($own)) { Remove-Program $path }
    Get-ChildItem -LiteralPath $Dir -Force -Filter '.culvert.*.exe' | Remove-Item -Force -ErrorAction SilentlyContinue
    if (@(Get-ChildItem -LiteralPath $Dir -Force).Count -eq 0) { Remove-Item -LiteralPath $Dir -Force }
    Set-InPath $false
    Say "removed $Target"
    if ($Purge -and (Test-Path -LiteralPath $DataDir)) {
      # What tunnels left that have no service any more; another installation's services keep theirs.
      $others = @(Get-ChildItem 'HKLM:\SYSTEM\CurrentControlSet\Services' -ErrorAction SilentlyContinue |
          Where-Object { $_.PSChildName -match '^culvert(-[a-z0-9-]+)?$' })
      if ($others.Count -eq 0 -and (Test-Administrator)) { Remove-Item -LiteralPath $DataDir -Recurse -Force }
    }
  }

  # --- the start ----------------------------------------------------------------------------------------------------

  if ($Help) { return Say $Usage }
  if ($ExecutionContext.SessionState.LanguageMode -ne 'FullLanguage') {
    Stop-Install 'this PowerShell is restricted, and cannot verify a release' @(
      'Download the binary, verify its signature with minisign, and put it in place by hand.')
  }
  if ($TokenFile) {
    if ($Token -and $Token -cne $env:CULVERT_TOKEN) { Stop-Install 'give TOKEN or -TokenFile, not both' }
    $Token = ''
    if (-not (Test-Path -LiteralPath $TokenFile -PathType Leaf)) {
      Stop-Install "cannot read the token file `"$TokenFile`""
    }
  }
  # No program that is started from here has a use for it in its environment.
  Remove-Item Env:CULVERT_TOKEN -ErrorAction SilentlyContinue
  if ($Token -match '[^A-Za-z0-9+/=_-]') { Stop-Install 'the token holds characters that no token has' }
  $service = [bool]($Token -or $TokenFile)
  if ($service -and $Uninstall) { Stop-Install '-Uninstall takes no token' }
  if ($service -and $NoService) { Stop-Install '-NoService and a token do not go together' }
  if ($Purge -and -not $Uninstall) { Stop-Install '-Purge goes with -Uninstall' }
  if ($Offline -and $Binary) { Stop-Install 'give -Offline or -Binary, not both' }
  if ($Sha256 -and -not $Binary) { Stop-Install '-Sha256 goes with -Binary' }
  $Version = $Version -replace '^v', ''
  if ($Version -notmatch '^[0-9A-Za-z.-]*$' -or $Version -like '-*') { Stop-Install "`"$Version`" is not a version" }
  if (-not $BaseUrl) { $BaseUrl = $DefaultBaseUrl }
  $script:CulvertBase = "$BaseUrl".TrimEnd('/')
  if ($script:CulvertBase -and $script:CulvertBase -notmatch '^https?://.') {
    Stop-Install "`"$BaseUrl`" is not an http(s) address"
  }
  $script:CulvertForMachine = (Test-Administrator) -and -not $User
  if ($service -and -not $script:CulvertForMachine) {
    Stop-Install "a service is the machine's, and for administrators" @('Run it as administrator, and leave -User out.')
  }
  if (-not $Dir) {
    if ($script:CulvertForMachine) { $Dir = Join-Path $env:ProgramFiles 'culvert' }
    else { $Dir = Join-Path $env:LOCALAPPDATA 'Programs\culvert' }
  }
  $Dir = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Dir).TrimEnd('\')
  $Target = Join-Path $Dir 'culvert.exe'
  # Older settings of Windows leave it out.
  $tls = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12
  [Net.ServicePointManager]::SecurityProtocol = $tls
  $script:CulvertWork = Join-Path ([IO.Path]::GetTempPath()) "culvert-install.$([Guid]::NewGuid().ToString('N'))"
  [void](New-Item -ItemType Directory -Path $script:CulvertWork)
  try {
    if ($Uninstall) { Invoke-Uninstall } else {
      Import-Verifier
      Invoke-Install
    }
  } finally {
    Remove-Item -LiteralPath $script:CulvertWork -Recurse -Force -ErrorAction SilentlyContinue
  }
}

Install-Culvert
