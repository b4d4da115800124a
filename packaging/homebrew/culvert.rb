class Culvert < Formula
  desc "Connector and edge of a tunnel for services behind NAT"
  homepage "@HOMEPAGE@"
  version "@VERSION@"
  license "Apache-2.0"

  on_macos do
    on_arm do
      url "@BASE_URL@/@FILE_DARWIN_ARM64@"
      sha256 "@SHA256_DARWIN_ARM64@"
    end
    on_intel do
      url "@BASE_URL@/@FILE_DARWIN_X64@"
      sha256 "@SHA256_DARWIN_X64@"
    end
  end

  on_linux do
    on_arm do
      url "@BASE_URL@/@FILE_LINUX_ARM64@"
      sha256 "@SHA256_LINUX_ARM64@"
    end
    on_intel do
      url "@BASE_URL@/@FILE_LINUX_X64@"
      sha256 "@SHA256_LINUX_X64@"
    end
  end

  def install
    bin.install Dir["culvert-*"].first => "culvert"
    # Updates are brew's: `culvert update` looks for this word.
    (lib/"culvert").mkpath
    (lib/"culvert/package-manager").write "brew\n"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/culvert --version")
  end
end
