<?php
session_start();
$_SESSION["visits"] = ($_SESSION["visits"] ?? 0) + 1;
echo "visit ", $_SESSION["visits"], "\n";
