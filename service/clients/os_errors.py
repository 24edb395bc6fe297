"""The errors of operating systems for files that cannot be written, and their failure reasons.

A client passes on the text of its system: ``strerror(3)`` of glibc, musl or a BSD in the language
of the client's process, a Windows message, or only the number or name of the error.
"""

import errno
from collections.abc import Mapping
from typing import Final

from mediabus.schemas.status import FailureReason

BY_NAME: Final[Mapping[str, FailureReason]] = {
    "EACCES": "not_writable",
    "EBUSY": "not_writable",
    "EDQUOT": "disk_full",
    "EEXIST": "not_writable",
    "EFBIG": "disk_full",  # FAT's 4 GiB, or a limit on the size of files
    "EILSEQ": "not_writable",  # a name that the file system does not accept
    "EIO": "not_writable",
    "EISDIR": "not_writable",
    "ELOOP": "not_writable",
    "EMFILE": "client_error",  # the client's own limit, not the folder's
    "ENAMETOOLONG": "not_writable",
    "ENFILE": "client_error",
    "ENODEV": "not_writable",
    "ENOENT": "missing_files",
    "ENOSPC": "disk_full",
    "ENOTCONN": "not_writable",  # a mounted folder whose FUSE process has ended
    "ENOTDIR": "not_writable",
    "ENXIO": "not_writable",
    "EPERM": "not_writable",
    "EROFS": "not_writable",
    "ESTALE": "not_writable",  # a network folder that was removed
    "ETXTBSY": "not_writable",
}
"""Reasons by the name of the error, for errors about files."""

BY_NUMBER: Final[Mapping[int, FailureReason]] = {
    number: BY_NAME[name] for number, name in errno.errorcode.items() if name in BY_NAME
}
"""Reasons by ``errno`` of this system."""

TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    "EACCES": (
        "permission denied",
        "access is denied",
        "keine berechtigung",
        "permission non accordée",
        "permission denegada",
        "permiso denegado",
        "permesso negato",
        "toegang geweigerd",
        "brak dostępu",
        "permissão negada",
        "permissão recusada",
        "отказано в доступе",
        "权限不够",
        "許可がありません",
    ),
    "EBUSY": ("resource busy", "device or resource busy", "being used by another process"),
    "EDQUOT": (
        "quota exceeded",
        "plattenplatz (quota)",
        "quota d'espace disque",
        "cuota de disco",
        "quota disco superata",
        "schijfquotum",
        "limit dyskowy",
        "cota da disco",
        "cota de disco",
        "quota do disco",
        "дисковая квота",
        "磁盘限额",
        "ディスク使用量制限",
    ),
    "EEXIST": ("file exists",),
    "EFBIG": ("file too large", "datei ist zu groß", "fichier trop gros", "file troppo grande"),
    "EILSEQ": ("illegal byte sequence", "volume label syntax is incorrect"),
    "EIO": (
        "input/output error",
        "i/o device error",
        "eingabe-/ausgabefehler",
        "erreur d'entrée/sortie",
        "error de entrada/salida",
        "errore di input/output",
        "invoer-/uitvoerfout",
        "błąd wejścia/wyjścia",
        "erro de entrada/saída",
        "ошибка ввода/вывода",
        "输入/输出错误",
        "入力/出力エラー",
    ),
    "EISDIR": ("is a directory",),
    "ELOOP": ("too many levels of symbolic links", "symbolic link loop"),
    "EMFILE": ("too many open files", "no file descriptors available"),
    "ENAMETOOLONG": ("file name too long", "filename too long", "extension is too long"),
    "ENODEV": ("no such device", "device is not ready", "device not configured"),
    "ENOENT": (
        "no such file or directory",
        "cannot find the file specified",
        "cannot find the path specified",
        "network path was not found",
        "datei oder verzeichnis nicht gefunden",
        "aucun fichier ou dossier de ce type",
        "no existe el fichero o el directorio",
        "file o directory non esistente",
        "bestand of map bestaat niet",
        "nie ma takiego pliku ani katalogu",
        "ficheiro ou pasta inexistente",
        "arquivo ou diretório inexistente",
        "нет такого файла или каталога",
        "没有那个文件或目录",
        "そのようなファイルやディレクトリはありません",
    ),
    "ENOSPC": (
        "no space left on device",
        "no space on device",
        "not enough space",
        "not enough disk space",
        "disk is full",
        "disk full",
        "kein speicherplatz mehr verfügbar",
        "aucun espace disponible",
        "no queda espacio",
        "spazio esaurito",
        "geen ruimte meer over",
        "brak miejsca na urządzeniu",
        "não há espaço disponível",
        "sem espaço livre",
        "не осталось свободного места",
        "没有空间",
        "空き領域がありません",
    ),
    "ENOTCONN": ("transport endpoint is not connected", "network name is no longer available"),
    "ENOTDIR": (
        "not a directory",
        "directory name is invalid",
        "ist kein verzeichnis",
        "n'est pas un dossier",
        "no es un directorio",
        "non è una directory",
        "is geen map",
        "nie jest katalogiem",
        "não é um diretório",
        "não é pasta",
        "это не каталог",
        "不是目录",
        "ディレクトリではありません",
    ),
    "ENXIO": ("no such device or address",),
    "EPERM": ("operation not permitted",),
    "EROFS": (
        "read-only file system",
        "media is write protected",
        "dateisystem ist nur lesbar",
        "accessible en lecture seulement",
        "sistema de ficheros de sólo lectura",
        "file system in sola lettura",
        "bestandssysteem is alleen-lezen",
        "wyłącznie do odczytu",
        "sistema de ficheiros só de leitura",
        "sistema de arquivos somente para leitura",
        "только для чтения",
        "只读文件系统",
        "読み込み専用ファイルシステム",
    ),
    "ESTALE": ("stale file handle", "stale nfs file handle"),
    "ETXTBSY": ("text file busy",),
}
"""Parts of the texts, in lower case, in the languages in which download clients run most."""
